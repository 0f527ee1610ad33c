# SPDX-License-Identifier: Apache-2.0
"""
What stands before MONAI Label and the page: who may call, from where, and which calls with which values.

Both get a request only after it was read and checked, and then made anew from the checked values.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import json
import logging
import re
import socket
import threading
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

from calls import Call, canonical_query, find_call
from uploads import Form, check_image, check_label, ending_of, read_form, renumbered
from values import MAX_JSON, Facts, NewId, Refused

__all__ = ["Guard", "Settings"]

logger = logging.getLogger(__name__)
Message = MutableMapping[str, Any]
Application = Callable[..., Awaitable[None]]
RULES = "default-src 'self'; img-src 'self' blob: data:; style-src 'self'; script-src 'self'; connect-src 'self'; "
RULES += "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": RULES,
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Settings:
    """
    Args:
        token: first part of every path; empty: no token is asked for.
        host: that the server listens on, which is also a name that it may be called by.
        max_upload: bytes of a file that is uploaded.
    """

    token: str
    host: str
    max_upload: int


@dataclass
class Answer:
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes

    @classmethod
    def of(cls, status: int, sentence: str) -> Answer:
        return cls(status, [(b"content-type", b"application/json")], json.dumps({"detail": sentence}).encode())


class Guard:
    """
    An ASGI application around two others.

    Args:
        page: answers the calls of the page, in the server's own event loop.
        monai_label: answers all others, in an event loop of its own, since it computes in it.
        label_app: gives the app of MONAI Label.
        settings: what is asked of a caller.
    """

    def __init__(
        self, page: Application, monai_label: Application, label_app: Callable[[], Any], settings: Settings
    ) -> None:
        self.page, self.monai_label, self.label_app, self.settings = page, monai_label, label_app, settings
        self.names = {"localhost", socket.gethostname().lower(), settings.host.lower()}
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True, name="MONAI Label").start()

    async def __call__(self, scope: Message, receive: Callable, send: Callable) -> None:
        if scope["type"] == "lifespan":
            await self.monai_label(scope, receive, send)
        elif scope["type"] == "http":
            try:
                answer = await self.answer(scope, receive)
            except Refused as refused:
                answer = Answer.of(refused.status, str(refused))
            except Exception:
                logger.exception("a call failed")
                answer = Answer.of(500, "The server failed at this call; its log has the cause.")
            await respond(send, answer, scope["method"])
        else:
            await receive()
            await send({"type": "websocket.close", "code": 1008})

    async def answer(self, scope: Message, receive: Callable) -> Answer:
        headers = headers_of(scope)
        host = self.check_host(scope)
        path = self.without_token(scope["raw_path"].decode("ascii", "replace").split("?")[0])
        if not path:  # the address without the slash at its end, from which the page's own addresses would not work
            return Answer(307, [(b"location", f"/{self.settings.token}/".encode())], b"")
        call, plain = find_call(scope["method"], path)
        check_origin(headers, host, call)

        limit = self.settings.max_upload + MAX_JSON if call.file else MAX_JSON
        body = await read_body(headers, receive, limit)
        app = self.label_app()
        facts = app.facts()
        call.check_model(plain, facts)
        query = call.query_checked(scope["query_string"].decode("ascii", "replace"), facts)
        content_type, body = await self.checked_body(call, headers.get("content-type", ""), body, query, app, facts)

        inner = {key: scope[key] for key in ("type", "asgi", "http_version", "method", "scheme", "client", "server")}
        inner |= {"path": plain, "raw_path": plain.encode(), "root_path": "", "query_string": canonical_query(query)}
        inner["headers"] = [(b"host", host.encode()), (b"content-length", str(len(body)).encode())]
        inner["headers"] += [(b"content-type", content_type.encode())] if content_type else []
        if call.of_page:
            return await collect(self.page, inner, body)
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(collect(self.monai_label, inner, body), self.loop)
        )

    def check_host(self, scope: Message) -> str:
        """Names of other machines are refused: a web page could let its own name point to this one (DNS rebinding)."""
        hosts = [value.decode("ascii", "replace") for name, value in scope["headers"] if name == b"host"]
        found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?", hosts[0]) if len(hosts) == 1 else None
        if found is None:
            raise Refused(400, "The call names no host, or several.")
        name = found[1].lower().strip("[]")
        try:
            ipaddress.ip_address(name)
        except ValueError:
            if name not in self.names:
                raise Refused(
                    403, f"This server is not called '{name}'. Use its IP address, or start it with --host {name}."
                ) from None
        return hosts[0].lower()

    def without_token(self, path: str) -> str:
        if not self.settings.token:
            return path
        token, slash, rest = path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.settings.token.encode()):
            raise Refused(403, "The address has no token, or a wrong one. Use the one that label_server.py printed.")
        return slash + rest

    async def checked_body(
        self, call: Call, content_type: str, body: bytes, query: dict[str, str], app: Any, facts: Facts
    ) -> tuple[str, bytes]:
        """Content type and body for what answers the call."""
        kind = content_type.split(";")[0].strip().lower()
        if call.json is not None:
            if body and kind != "application/json":
                raise Refused(415, "The body is not declared as JSON: send Content-Type: application/json.")
            return "application/json", json.dumps(call.json_checked(body, facts)).encode() if body else b""
        if call.file == "body":
            if kind != "image/png":
                raise Refused(415, "The body is not declared as PNG: send Content-Type: image/png.")
            return "image/png", body
        if call.file is None:
            if body:
                raise Refused(400, "This call has no body.")
            return "", b""
        if body and kind != "multipart/form-data":
            raise Refused(415, "The body is not declared as multipart/form-data.")
        form = await read_form(content_type, body, call.file) if body else Form()
        params = call.params_checked(form.params, facts)
        ending = await self.check_file(call, form, query, params, app, facts)
        return form.encoded(call.file, json.dumps(params).encode(), ending)

    async def check_file(
        self, call: Call, form: Form, query: dict[str, str], params: dict[str, Any], app: Any, facts: Facts
    ) -> str:
        """The ending that the file is stored with; empty where there is none."""
        if form.content is None:
            if call.method == "PUT" or not query.get("image"):
                raise Refused(422, f"There is no file in the part '{call.file}'.")
            return ""
        if not form.content:
            raise Refused(422, "The file is empty.")
        if len(form.content) > self.settings.max_upload:
            raise Refused(413, too_large(self.settings.max_upload))
        ending = ending_of(form.file_name, app.volumes)
        if call.kind == "label":
            path = app.datastore().get_image_uri(query["image"])
            if app.volumes and (segments := params.get("label_info")):
                classes = app.task.labels
                form.content = await asyncio.to_thread(renumbered, form.file_name, form.content, segments, classes)
                params["label_info"] = [{"name": each, "idx": value} for each, value in classes.items()]
            await asyncio.to_thread(check_label, form.file_name, form.content, path, app.out_channels, app.volumes)
            return ending
        if call.method == "PUT":
            name = PurePath(form.file_name).name[: -len(ending)]
            query["image"] = NewId().checked(query.get("image") or name, facts)
        await asyncio.to_thread(check_image, form.file_name, form.content, app.volumes)
        return ending


def headers_of(scope: Message) -> dict[str, str]:
    """Headers by name; of those that decide anything here, none may come twice."""
    found: dict[str, str] = {}
    for name, value in scope["headers"]:
        key = name.decode("latin-1").lower()
        if key in found and key in ("origin", "content-length", "content-type", "sec-fetch-site", "transfer-encoding"):
            raise Refused(400, f"The header {key} comes twice.")
        found[key] = value.decode("latin-1")
    return found


def check_origin(headers: dict[str, str], host: str, call: Call) -> None:
    """Calls that another page makes in the user's browser are refused; a link to this page is not."""
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}", f"https://{host}"):
        raise Refused(403, "Other web pages may not use this server.")
    if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
        link = headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"
        if not (link and call.path == "/"):
            raise Refused(403, "Other web pages may not use this server.")


async def read_body(headers: dict[str, str], receive: Callable, limit: int) -> bytes:
    declared = headers.get("content-length", "0")
    if not re.fullmatch(r"\d{1,15}", declared):
        raise Refused(400, "The header content-length is no number.")
    parts, size, more = [], 0, True
    too_long = int(declared) > limit
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "The call ended early.")
        more = message.get("more_body", False)
        size += len(message.get("body", b""))
        too_long = too_long or size > limit
        if too_long and size > 2 * limit:
            break
        if not too_long:  # what is too long is read for a while, so that the client gets the answer, but not kept
            parts.append(message.get("body", b""))
    if too_long:
        raise Refused(413, too_large(limit))
    return b"".join(parts)


def too_large(limit: int) -> str:
    size = f"{limit // 2**20} MiB" if limit >= 2**20 else f"{limit // 2**10} KiB"
    return f"What was sent is larger than {size}; label_server.py --max_upload sets the limit for files."


async def collect(application: Application, scope: Message, body: bytes) -> Answer:
    """The complete answer of an application."""
    messages: list[Message] = []
    requests = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        if requests:
            return requests.pop()
        return await asyncio.get_running_loop().create_future()  # never: the caller is there to the end

    async def send(message: Message) -> None:
        messages.append(message)

    try:
        await application(scope, receive, send)
    except Exception:
        logger.exception("a call failed")
    start = next((message for message in messages if message["type"] == "http.response.start"), None)
    if start is None or (start["status"] >= 500 and b"application/json" not in dict(start["headers"]).values()):
        return Answer.of(500, "The server failed at this call; its log has the cause.")
    content = b"".join(message.get("body", b"") for message in messages if message["type"] == "http.response.body")
    return Answer(start["status"], list(start["headers"]), content)


async def respond(send: Callable, answer: Answer, method: str) -> None:
    ours = {name.lower().encode() for name in HEADERS} | {b"content-length"}
    kept = [(k, v) for k, v in answer.headers if k.lower() not in ours and not k.lower().startswith(b"access-control")]
    kept += [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
    declared = dict(answer.headers).get(b"content-length")
    length = declared if method == "HEAD" and declared else str(len(answer.body)).encode()
    await send(
        {"type": "http.response.start", "status": answer.status, "headers": [*kept, (b"content-length", length)]}
    )
    await send({"type": "http.response.body", "body": b"" if method == "HEAD" else answer.body})
