# SPDX-License-Identifier: Apache-2.0
"""Start MONAI Label's server with a bound on connections that have sent no whole request. uvicorn has no time-out for
them: they would use up the files that a process may open, also those of clients without the token.
"""

from asyncio import BaseTransport
from functools import partial

import h11
import uvicorn
from monailabel.main import Main
from uvicorn.protocols.http.h11_impl import H11Protocol

MAX_WAITING = 100


class Bounded(H11Protocol):
    """Close the oldest of too many connections that wait for a request or for the rest of its header."""

    def connection_made(self, transport: BaseTransport) -> None:
        super().connection_made(transport)
        self.since = self.loop.time()
        open_ones = (each for each in self.connections if not each.transport.is_closing())
        waiting = [each for each in open_ones if each.conn.their_state is h11.IDLE]
        if len(waiting) > MAX_WAITING:
            min(waiting, key=lambda each: each.since).transport.abort()


if __name__ == "__main__":
    # MONAI Label does not pass these options on; asyncio accepts a whole backlog at once
    uvicorn.run = partial(uvicorn.run, http=Bounded, backlog=MAX_WAITING)
    Main().run()
