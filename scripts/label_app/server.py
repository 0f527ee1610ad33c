# SPDX-License-Identifier: Apache-2.0
"""The application that scripts/label_server.py starts: the calls of MONAI Label and of the page, behind the guard."""

import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import calls
import page_calls
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.staticfiles import StaticFiles
from guard import MAX_TEXT, Guard
from monailabel.interfaces.utils.app import app_instance

from unetv2_monai import InputError


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    label_app = app_instance()
    label_app.server_mode(True)
    label_app.on_init_complete()
    yield


def refuse_unknown(request: Request) -> None:
    """Refuse unknown parameters of the query, as unknown options are."""
    known = [field.alias for field in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise HTTPException(422, f"No parameter {name[:60]!r}. There is: {', '.join(known) or 'none'}.")


async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
    """Return where the first refused value is, such as 'body max_epochs', and why."""
    first = error.errors()[0]
    name = " ".join(map(str, first["loc"]))[:60]
    sentence = f"No option {name!r}" if first["type"] == "extra_forbidden" else f"{name!r}: {first['msg']}"
    return JSONResponse({"detail": f"{sentence}."}, 422)


async def unusable(_: Request, error: Exception) -> JSONResponse:
    """Return which file or library cannot be used, and why: for an InputError, OSError or ImportError."""
    cause = error if isinstance(error, OSError) else error.__cause__
    full = isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT)
    return JSONResponse({"detail": str(error).splitlines()[0].rstrip(".") + "."}, 507 if full else 422)


async def failed(_: Request, __: Exception) -> JSONResponse:
    return JSONResponse({"detail": "The server failed at this call; its log has the cause."}, 500)


os.environ["UNETV2_LABEL_SERVER"] = str(os.getpid())  # marks this process for the app, which other processes load too
calls_of_both = FastAPI(
    openapi_url=None,
    redirect_slashes=False,
    lifespan=lifespan,
    dependencies=[Depends(refuse_unknown)],
    form_limits={"max_files": 1, "max_fields": 1, "max_part_size": MAX_TEXT},
    exception_handlers={RequestValidationError: invalid, Exception: failed}
    | dict.fromkeys((InputError, OSError, ImportError), unusable),
)
calls_of_both.include_router(calls.router)
calls_of_both.include_router(page_calls.router)
calls_of_both.include_router(page_calls.of_images)
calls_of_both.mount("/page", StaticFiles(directory=page_calls.FOLDER))
app = Guard(
    calls_of_both,
    token=os.environ.pop("UNETV2_LABEL_TOKEN"),  # not for the processes that this one starts
    host=os.environ["UNETV2_LABEL_HOST"],
    max_upload=int(os.environ["UNETV2_LABEL_MAX_UPLOAD"]),
)
