# SPDX-License-Identifier: Apache-2.0
"""The checks before all calls: who may call, from where, and how much may be sent."""

import hmac
import ipaddress
import re
import socket
from urllib.parse import parse_qsl, urlencode

from fastapi import HTTPException
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_TEXT = 64 * 1024  # bytes beside a file
MAX_JSON = 2**20  # bytes of a body that is no file, such as the ids of thousands of skipped images
FILES = ("multipart/form-data", "image/png")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; "
    "connect-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """An ASGI application around another one. Calls that pass the checks are forwarded to the inner application; the
    token and a final slash are cut from their path.

    ``token`` is the first part of every path; if it is empty, none is asked for. Calls may name the server by ``host``,
    the address that it listens on. ``max_upload`` is the largest size of an uploaded file in bytes.
    """

    def __init__(self, app: ASGIApp, token: str, host: str, max_upload: int) -> None:
        self.app, self.token, self.max_upload = app, token, max_upload
        self.names = {"localhost", socket.gethostname().lower(), host.lower()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        file = headers.get("content-type", "").lower().startswith(FILES)
        receive = limited(receive, MAX_TEXT + self.max_upload if file else MAX_JSON)
        try:
            host = self.check_host(headers.getlist("host"))
            path = self.without_token(scope["path"])
            check_origin(headers, host, path, bool(self.token))
            # an empty parameter means the same as a missing one
            scope = {**scope, "path": path, "query_string": urlencode(parse_qsl(scope["query_string"])).encode()}
        except HTTPException as error:
            refusal = JSONResponse({"detail": error.detail}, error.status_code, error.headers)
            await refusal(scope, receive, secured(send))
        else:
            await self.app(scope, receive, secured(send))

    def check_host(self, hosts: list[str]) -> str:
        """Refuse host names of other machines: a web page could point its own host name to this one (DNS rebinding)."""
        found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?", hosts[0]) if len(hosts) == 1 else None
        if found is None:
            raise HTTPException(400, "The call names no host, or several.")
        name = found[1].lower().strip("[]")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            if name not in self.names:
                sentence = f"This server is not called '{name}'. Use its IP address, or start it with --host {name}."
                raise HTTPException(403, sentence) from None
        return hosts[0].lower()

    def without_token(self, path: str) -> str:
        if self.token:
            token, slash, rest = path.removeprefix("/").partition("/")
            if not hmac.compare_digest(token.encode(), self.token.encode()):
                sentence = "The address has no token, or a wrong one. Use the one that label_server.py printed."
                raise HTTPException(403, sentence)
            if not slash:  # without it, the page's relative addresses would not work
                raise HTTPException(307, "The address ends with a slash.", {"Location": f"/{self.token}/"})
            path = slash + rest
        return path if path == "/" else path.removesuffix("/")


def check_origin(headers: Headers, host: str, path: str, token: bool) -> None:
    """Refuse calls that another page makes in the user's browser, but not a link to this page."""
    origins = (f"http://{host}", f"https://{host}")
    own = all(origin.lower() in origins for origin in headers.getlist("origin"))
    if not token and path != "/" and not {"origin", "sec-fetch-site"} & set(headers.keys()):
        # at an address without TLS, browsers send a GET with no more than this; other clients do not call themselves so
        browser = headers.get("user-agent", "").startswith("Mozilla/")
        own = not browser or headers.get("referer", "").lower().startswith(tuple(f"{origin}/" for origin in origins))
    linked = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document" and path == "/"
    if not own or not (linked or set(headers.getlist("sec-fetch-site")) <= {"same-origin", "none"}):
        raise HTTPException(403, "Other web pages may not use this server.")


def limited(receive: Receive, limit: int) -> Receive:
    """Receive at most ``limit`` bytes. A longer body is read to its end, so that the client gets the answer."""
    size = 0

    async def receive_limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > limit:
            while message.get("more_body"):
                message = await receive()
            raise HTTPException(
                413, "What was sent is too large. For files, label_server.py --max_upload sets the limit."
            )
        return message

    return receive_limited


def secured(send: Send) -> Send:
    """Add to every answer the headers by which browsers keep other pages away."""

    async def send_secured(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).update(HEADERS)
        await send(message)

    return send_secured
