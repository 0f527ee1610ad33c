# SPDX-License-Identifier: Apache-2.0
"""Attacks on a running server by the values of calls that it answers, and by uploads: as in test_security.py."""

import gzip
import json
import os
import shutil
import urllib.parse

import pytest

from ...support.workflow import cases
from .attacks import EXPRESSIONS, MULTIPART, PYTHON, blank, bomb, multipart, raw, refused, send, token
from .support import JSON, MODEL, PNG

pytest.importorskip("monailabel")
VALUES = [(name, value) for name in cases("attacks", "training") for value in EXPRESSIONS]
VALUES += [*cases("attacks", "values"), ("client_id", "x" * 200)]


@pytest.mark.parametrize(("name", "value"), VALUES)
def test_expressions_and_values_out_of_range_in_training(attacked, unchanged, name, value):
    body = json.dumps({name: value}).replace("Infinity", "1e999").encode()
    refused(attacked.call("POST", f"/train/{MODEL}", body, JSON), 422)


@pytest.mark.parametrize("value", EXPRESSIONS, ids=str)
@pytest.mark.parametrize("name", cases("attacks", "inference"))
def test_expressions_in_inference(attacked, unchanged, name, value):
    params = json.dumps({name: value})
    path = f"/infer/{MODEL}?image=case_0&output=image"
    refused(attacked.call("POST", path, multipart(None, params=params), MULTIPART), 422)


@pytest.mark.parametrize("path", [f"/scoring/{MODEL}", f"/batch/infer/{MODEL}", "/activelearning/first", "/page/next"])
@pytest.mark.parametrize("name", cases("attacks", "other"))
def test_expressions_in_other_calls(attacked, unchanged, path, name):
    refused(attacked.call("POST", path, json.dumps({name: PYTHON}).encode(), JSON), 422)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 60_000, 400), (b'{"a":' * 10_000, 400), (b'{"max_epochs": ' + b"9" * 5000 + b"}", 400),
        (b'{"max_epochs": 1' + b" " * 2**20 + b"}", 413),
        (b"[1]", 422), (b"\xff\xfe", 422), (b"x", 422),
        (b'{"max\\u005fepochs": "\\u0024(1)"}', 422), (b'{"a\\ud800": 1}', 422),
    ],
)  # fmt: skip
def test_json_bombs(attacked, unchanged, body, status):
    refused(attacked.call("POST", f"/train/{MODEL}", body, JSON), status)


def test_json_that_is_not_declared_as_such(attacked, unchanged):
    """A web page can send these types without asking first."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        refused(attacked.call("POST", f"/train/{MODEL}", b'{"max_epochs": 1}', {"Content-Type": kind}), 422)


@pytest.mark.parametrize(("method", "path", "status"), cases("attacks", "parameters"))
def test_unknown_parameters(attacked, unchanged, method, path, status):
    refused(attacked.call(method, path.format(model=MODEL)), status)


@pytest.mark.parametrize("name", cases("attacks", "ids"))
def test_ids_that_are_paths(attacked, unchanged, name, images):
    quoted = name if "%" in name else urllib.parse.quote(name, safe="")
    for path in ("datastore/image?image", "datastore/image/info?image", "datastore/label?tag=final&label"):
        refused(attacked.call("GET", f"/{path}={quoted}"), 404, 422)
    for part in ("image", "prediction", "label"):
        refused(attacked.call("GET", f"/page/{part}?id={quoted}"), 404, 422)
    refused(attacked.call("POST", f"/infer/{MODEL}?image={quoted}"), 404, 422)
    refused(attacked.call("POST", f"/page/carry?id={quoted}"), 404, 422)
    refused(attacked.call("DELETE", f"/page/label?id={quoted}"), 404, 422)
    refused(attacked.call("PUT", f"/page/label?id={quoted}", blank(96, 60), PNG), 404, 422)
    refused(send(attacked, f"/datastore/label?image={quoted}", blank(96, 60), part="label"), 404, 422)


def test_a_file_of_the_machine_is_not_read(attacked, unchanged, images, tmp_path):
    shutil.copy(images / "case_0.png", tmp_path / "other.png")
    for path in (tmp_path / "other.png", images / "case_0.png", attacked.work_dir / "tmp" / "x.png"):
        refused(attacked.call("POST", f"/infer/{MODEL}?image={path}&output=image"), 404)


@pytest.mark.parametrize("name", [*cases("attacks", "new_ids"), "x" * 200])
def test_uploads_with_bad_ids(attacked, unchanged, name):
    quoted = name if "%" in name else urllib.parse.quote(name, safe="")
    for path in ("/datastore/image", "/datastore/"):
        refused(send(attacked, f"{path}?image={quoted}", blank(9, 9)), 409, 422)


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        *(("x.png", content, 422) for content in (b"no image", b"", blank(9, 9)[:40], b"GIF89a" + bytes(100))),
        ("x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", 422),
        *((name, blank(9, 9), 415) for name in ("x.py", "x.dcm", "x", "../../pwned.png/../x.sh")),
        ("x.svg", b"<svg/>", 415), ("x.html", b"<script>", 415), ("x.nii.gz", gzip.compress(bytes(4096)), 415),
    ],
)  # fmt: skip
def test_uploads_that_are_no_images(attacked, unchanged, name, content, status):
    refused(send(attacked, "/datastore/image?image=new", content, name), status)
    refused(send(attacked, f"/infer/{MODEL}?output=image", content, name, method="POST"), status)


def test_decompression_bombs(attacked, unchanged):
    content = bomb(60_000, 60_000)
    refused(send(attacked, "/datastore/image?image=new", content), 422)
    refused(send(attacked, "/datastore/label?image=case_0", content, part="label"), 422)
    refused(attacked.call("PUT", "/page/label?id=case_0", content, PNG), 422)


def test_uploads_that_are_too_large(attacked, unchanged):
    content = os.urandom(2 * 2**20)
    refused(send(attacked, "/datastore/image?image=new", content), 413)
    refused(send(attacked, f"/infer/{MODEL}?output=image", content, method="POST"), 413)
    refused(attacked.call("PUT", "/page/label?id=case_0", content, PNG), 413)
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(multipart("file", content)), multipart("file", content))
    kind = f"Content-Type: {MULTIPART['Content-Type']}"
    path = f"{token(attacked)}/datastore/image?image=new"
    refused(raw(attacked, "PUT", path, kind, "Transfer-Encoding: chunked", body=chunks), 413)


@pytest.mark.parametrize("lines", cases("attacks", "headers"))
def test_contradictory_headers(attacked, unchanged, lines):
    path = f"{token(attacked)}/train/{MODEL}"
    status, _ = raw(attacked, "POST", path, *lines, "Content-Type: application/json", body=b"{}")
    assert 400 <= status < 500


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (multipart("label", blank(95, 60)), "95 x 60"), (multipart("label", blank(90, 60, 7)), "values 7"),
        (multipart("label", b"text"), "no image"), (b"no multipart", "multipart"),
        (multipart("file", blank(90, 60)), "'body label'"), (multipart(None), "'body label'"),
        (multipart("label", blank(90, 60), params='{"ts": 1}'), "No option 'body params ts'"),
        (multipart("label", blank(90, 60), params='{"label_info": [{"name": "$x", "idx": 1}]}'), "label_info 0 name"),
    ],
)  # fmt: skip
def test_labels_that_are_none(attacked, unchanged, body, why):
    assert why in refused(attacked.call("PUT", "/datastore/label?image=case_0&tag=final", body, MULTIPART), 400, 422)


@pytest.mark.parametrize("tag", ["..", "../../x", "%24x", "other", "final/../..", "final%00"])
def test_labels_with_bad_tags(attacked, unchanged, tag):
    refused(send(attacked, f"/datastore/label?image=case_0&tag={tag}", blank(90, 60), part="label"), 422)


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (blank(91, 60), 422), (blank(90, 60, 2), 422), (blank(90, 60, (255, 0, 0)), 422),
        (b"text", 422), (b"", 422), (blank(90, 60)[:-30], 422),
    ],
)  # fmt: skip
def test_labels_of_the_page_that_are_none(attacked, unchanged, content, status):
    refused(attacked.call("PUT", "/page/label?id=case_0", content, PNG), status)
    refused(attacked.call("PUT", "/page/label?id=case_0", blank(90, 60), {"Content-Type": "text/plain"}), 415)
