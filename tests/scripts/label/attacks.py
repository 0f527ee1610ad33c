# SPDX-License-Identifier: Apache-2.0
"""What attacks on the label server are made of, and what they must not leave behind."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import socket
import struct
import urllib.parse
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from .support import png

PYTHON = "$__import__('pathlib').Path('pwned').write_text('x') and 1"
EXPRESSIONS = [PYTHON, "@network", "%train.json", {"_target_": "os.system", "command": "touch pwned"}, [PYTHON]]
BOUNDARY = "of-the-tests"
MULTIPART = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


def listing(*folders: Path) -> dict[str, str]:
    """Every file with its hash, and where links lead; logs left out."""
    found = {}
    for folder in folders:
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".log", ".pyc", ".lock") or "__pycache__" in path.parts or path.name == ".lock":
                continue
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path.is_file():
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def refused(answer: tuple[int, bytes], *statuses: int) -> str:
    status, body = answer
    assert 400 <= status < 500, (status, body)
    assert not statuses or status in statuses, (status, body)
    sentence = json.loads(body)["detail"]
    assert isinstance(sentence, str)
    assert sentence.endswith("."), sentence
    return sentence


def call(server, method, path, body=None, **headers) -> tuple[int, bytes]:
    """A call with headers whose names have underscores for hyphens."""
    return server.call(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})


def send(server, path: str, *file: Any, part: str = "file", method: str = "PUT", **more: str) -> tuple[int, bytes]:
    """A call with a multipart body: a file's content, and its name."""
    return server.call(method, path, multipart(part, *file, **more), MULTIPART)


def raw(server, method: str, path: str, *lines: str, name: str | None = None, body: bytes = b"") -> tuple[int, bytes]:
    """
    What a library would not send: the bytes of a request as they are.

    Args:
        method, path: the path with the token.
        lines: further headers.
        name: of the host. Defaults to the server's own.
        body: as it is sent.
    """
    address = urllib.parse.urlsplit(server.url)
    head = [f"{method} {path} HTTP/1.1", f"Host: {address.netloc if name is None else name}", "Connection: close"]
    with socket.create_connection((address.hostname, address.port), 20) as opened:
        opened.sendall("\r\n".join([*head, *lines, "", ""]).encode() + body)
        answer = http.client.HTTPResponse(opened, method=method)
        answer.begin()
        return answer.status, answer.read()


def token(server) -> str:
    return urllib.parse.urlsplit(server.url).path


def host(server) -> str:
    return urllib.parse.urlsplit(server.url).netloc


def multipart(part: str | None, content: bytes = b"", name: str = "x.png", params: str = "{}") -> bytes:
    parts = [f'Content-Disposition: form-data; name="params"\r\n\r\n{params}'.encode()]
    if part:
        head = f'Content-Disposition: form-data; name="{part}"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + content)
    return b"".join(b"--" + BOUNDARY.encode() + b"\r\n" + each + b"\r\n" for each in parts) + (
        b"--" + BOUNDARY.encode() + b"--\r\n"
    )


def blank(width: int, height: int, value: object = 0) -> bytes:
    """A PNG of one value, or colour."""
    return png(np.full((height, width, 3) if isinstance(value, tuple) else (height, width), value))


def bomb(width: int, height: int) -> bytes:
    """A small PNG of that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
