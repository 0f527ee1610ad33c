# SPDX-License-Identifier: Apache-2.0
"""What attacks on the label server are made of, and what they must not leave behind."""

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
    for path in (path for folder in folders for path in folder.rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file() and path.suffix not in (".log", ".pyc", ".lock") and path.name != ".lock":
            found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def refused(answer: tuple[int, bytes], *statuses: int) -> str:
    status, body = answer
    assert 400 <= status < 500, (status, body)
    assert not statuses or status in statuses, (status, body)
    sentence = json.loads(body)["detail"]
    assert isinstance(sentence, str)
    return sentence


def send(server, path: str, *file: Any, part: str = "file", method: str = "PUT", **more: str) -> tuple[int, bytes]:
    """A call with a multipart body: a file's content, and its name."""
    return server.call(method, path, multipart(part, *file, **more), MULTIPART)


def raw(server, method: str, path: str, *lines: str, name: str | None = None, body: bytes = b"") -> tuple[int, bytes]:
    """What a library would not send: a request with these lines; the path has the token, the host may have a name."""
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
    from urllib3 import encode_multipart_formdata

    return encode_multipart_formdata({"params": params, **({part: (name, content)} if part else {})}, BOUNDARY)[0]


def blank(width: int, height: int, value: object = 0) -> bytes:
    """A PNG of one value, or colour."""
    return png(np.full((height, width, 3) if isinstance(value, tuple) else (height, width), value))


def bomb(width: int, height: int) -> bytes:
    """A small PNG that states so many pixels."""
    head = b"IHDR" + struct.pack(">II", width, height) + blank(1, 1)[24:29]
    return blank(1, 1)[:12] + head + struct.pack(">I", zlib.crc32(head)) + blank(1, 1)[33:]
