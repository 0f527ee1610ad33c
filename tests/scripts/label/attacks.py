# SPDX-License-Identifier: Apache-2.0
"""What attacks on the label server are made of, and what they must not leave behind."""

from __future__ import annotations

import hashlib
import http.client
import io
import json
import os
import socket
import struct
import urllib.parse
import zlib
from pathlib import Path

from PIL import Image

PYTHON = "$__import__('pathlib').Path('pwned').write_text('x') and 1"
EXPRESSIONS = [PYTHON, "@network", "%train.json", {"_target_": "os.system", "command": "touch pwned"}, [PYTHON]]
JSON = {"Content-Type": "application/json"}
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


def call(server, method, path, body=None, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.call(method, path, body, headers)


def raw(server, request: str | bytes) -> tuple[int, bytes]:
    """What a library would not send: the bytes of a request as they are."""
    address = urllib.parse.urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), 20) as opened:
        sent = request if isinstance(request, bytes) else request.encode()
        opened.sendall(sent)
        answer = http.client.HTTPResponse(opened, method=sent.split(maxsplit=1)[0].decode())
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


def png(*size: int, value: int = 0, mode: str = "L") -> bytes:
    written = io.BytesIO()
    Image.new(mode, size, value).save(written, "PNG")
    return written.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A small PNG of that many pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )
