# SPDX-License-Identifier: Apache-2.0
"""Attacks on a running server by the values of calls that it answers, and by uploads: as in test_security.py."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import urllib.parse

import pytest

from .attacks import EXPRESSIONS, JSON, MULTIPART, PYTHON, bomb, call, host, multipart, png, raw, refused, token
from .support import MODEL

pytest.importorskip("monailabel")


def train_options(attacked) -> dict:
    return attacked.client.info()["trainers"][MODEL]["config"]


@pytest.mark.parametrize("value", EXPRESSIONS, ids=["expression", "reference", "macro", "object", "list"])
@pytest.mark.parametrize(
    "name",
    [
        "max_epochs",
        "val_split",
        "pretrained",
        "device",
        "multi_gpu",
        "gpus",
        "tracking",
        "tracking_uri",
        "run_id",
        "tracking_experiment_name",
        "model_filename",
        "client_id",
        "logging",
        "dataset",
        "dataloader",
        "model",
        "bundle_path",
        "force_multi_gpu",
        "tracking_run_name",
        "local_rank",
    ],
)
def test_expressions_in_training(attacked, unchanged, name, value):
    refused(attacked.call("POST", f"/train/{MODEL}", json.dumps({name: value}).encode(), JSON), 422)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_epochs", 0),
        ("max_epochs", 1e9),
        ("max_epochs", 2.5),
        ("max_epochs", True),
        ("max_epochs", "3"),
        ("max_epochs", None),
        ("val_split", -1),
        ("val_split", 1),
        ("val_split", 1e999),
        ("tracking", "mlflow"),
        ("tracking_uri", "http://evil.example"),
        ("run_id", "evaluating"),
        ("model_filename", "../../x.pt"),
        ("gpus", "0;touch pwned"),
        ("device", "meta"),
        ("pretrained", "yes"),
        ("client_id", "x" * 200),
        ("gpus", "0\n"),
    ],
)
def test_values_out_of_range(attacked, unchanged, name, value):
    body = json.dumps({name: value}).replace("Infinity", "1e999").encode()
    refused(attacked.call("POST", f"/train/{MODEL}", body, JSON), 422)


@pytest.mark.parametrize("value", EXPRESSIONS, ids=["expression", "reference", "macro", "object", "list"])
@pytest.mark.parametrize(
    "name",
    [
        "device",
        "result_extension",
        "result_dtype",
        "result_compress",
        "model_filename",
        "output",
        "client_id",
        "save_label",
        "label_tag",
        "image",
        "logging",
        "roi_size",
        "skip_writer",
        "label",
    ],
)
def test_expressions_in_inference(attacked, unchanged, name, value):
    body = multipart(None, params=json.dumps({name: value}))
    refused(attacked.call("POST", f"/infer/{MODEL}?image=case_0&output=image", body, MULTIPART), 422)


@pytest.mark.parametrize("path", [f"/scoring/{MODEL}", f"/batch/infer/{MODEL}", "/activelearning/first", "/page/next"])
@pytest.mark.parametrize(
    "name", ["max_samples", "device", "gpus", "client_id", "strategy", "labels", "image", "images"]
)
def test_expressions_in_other_calls(attacked, unchanged, path, name):
    refused(attacked.call("POST", path, json.dumps({name: PYTHON}).encode(), JSON), 422)


@pytest.mark.parametrize(
    ("body", "statuses"),
    [
        (b"[" * 60_000, (400,)),
        (b'{"a":' * 10_000, (400,)),
        (b'{"max_epochs": 1' + b" " * 70_000 + b"}", (413,)),
        (b'{"max_epochs": 1, "max_epochs": 2}', (400,)),
        (b'{"val_split": NaN}', (400,)),
        (b"[1]", (422,)),
        (b"\xff\xfe", (400,)),
        (b'{"max_epochs": ' + b"9" * 5000 + b"}", (400, 422)),
        (b"x", (400,)),
        (b'{"max\\u005fepochs": "\\u0024(1)"}', (422,)),
        (b'{"a\\ud800": 1}', (422,)),
    ],
)
def test_json_bombs(attacked, unchanged, body, statuses):
    refused(attacked.call("POST", f"/train/{MODEL}", body, JSON), *statuses)


def test_json_that_is_not_declared_as_such(attacked, unchanged):
    """A web page can send these types without asking first."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""):
        refused(call(attacked, "POST", f"/train/{MODEL}", b'{"max_epochs": 1}', Content_Type=kind), 415)


def test_repeated_and_unknown_parameters(attacked, unchanged):
    refused(attacked.call("POST", f"/infer/{MODEL}?image=case_0&image=case_1"), 400)
    refused(attacked.call("POST", f"/infer/{MODEL}?image=case_0&session_id=x"), 422)
    refused(attacked.call("POST", f"/infer/{MODEL}?image=case_0&output=dicom_seg"), 422)
    refused(attacked.call("GET", "/datastore/?output=all&" + "&".join(f"x{i}=1" for i in range(100))), 400)
    refused(attacked.call("GET", "/datastore/?output=%24x"), 422)
    refused(attacked.call("GET", "/page/image?id=case_0&id=case_1"), 400)
    refused(attacked.call("GET", "/page/image"), 422)


PATHS = ["../../../etc/passwd", "/etc/passwd", "..%2f..%2fx", "%2e%2e%2fx", "..\\x", "datastore_v2.json", "labels", "."]
PATHS += ["case_0.png", "case_0%00", "file:///etc/passwd", "..", "", "case_0/../case_1", "$x"]


@pytest.mark.parametrize("name", PATHS)
def test_ids_that_are_paths(attacked, unchanged, name, images):
    quoted = name if "%" in name else urllib.parse.quote(name, safe="")
    for method, path in (
        ("POST", f"/infer/{MODEL}?image={quoted}"),
        ("GET", f"/datastore/image?image={quoted}"),
        ("GET", f"/datastore/image/info?image={quoted}"),
        ("GET", f"/datastore/label?label={quoted}&tag=final"),
        ("GET", f"/page/image?id={quoted}"),
        ("GET", f"/page/prediction?id={quoted}"),
        ("GET", f"/page/label?id={quoted}"),
        ("DELETE", f"/page/label?id={quoted}"),
    ):
        refused(attacked.call(method, path), 404, 422)
    refused(attacked.call("PUT", f"/page/label?id={quoted}", png(96, 60), {"Content-Type": "image/png"}), 404, 422)
    refused(
        attacked.call("PUT", f"/datastore/label?image={quoted}", multipart("label", png(96, 60)), MULTIPART), 404, 422
    )


def test_a_file_of_the_machine_is_not_read(attacked, unchanged, images, tmp_path):
    shutil.copy(images / "images" / "case_0.png", tmp_path / "other.png")
    for path in (tmp_path / "other.png", images / "images" / "case_0.png", attacked.work_dir / "tmp" / "x.png"):
        refused(attacked.call("POST", f"/infer/{MODEL}?image={path}&output=image"), 404)


@pytest.mark.parametrize(
    "name",
    [
        "../../pwned",
        "..%2f..%2fpwned",
        "/tmp/pwned",
        "a/b",
        ".hidden",
        "case_0",
        "x" * 200,
        "a\\b",
        "%00",
        "$x",
        "x@y",
        "x%25y",
        "case_0%0a",
        "new.",
    ],
)
def test_uploads_with_bad_ids(attacked, unchanged, name):
    quoted = name if "%" in name else urllib.parse.quote(name, safe="")
    for path in ("/datastore/image", "/datastore/"):
        refused(attacked.call("PUT", f"{path}?image={quoted}", multipart("file", png(9, 9)), MULTIPART), 409, 422)


@pytest.mark.parametrize(
    ("name", "content", "statuses"),
    [
        ("x.png", b"no image", (400,)),
        ("x.png", b"", (422,)),
        ("x.py", png(9, 9), (415,)),
        ("x.svg", b"<svg/>", (415,)),
        ("x.html", b"<script>", (415,)),
        ("x.dcm", png(9, 9), (415,)),
        ("x", png(9, 9), (415,)),
        ("x.png", png(9, 9)[:40], (400,)),
        ("../../pwned.png/../x.sh", png(9, 9), (415,)),
        ("x.png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", (400,)),
        ("x.png", b"GIF89a" + bytes(100), (400,)),
        ("x.nii.gz", gzip.compress(bytes(4096)), (415,)),
    ],
)
def test_uploads_that_are_no_images(attacked, unchanged, name, content, statuses):
    refused(attacked.call("PUT", "/datastore/image?image=new", multipart("file", content, name), MULTIPART), *statuses)
    refused(
        attacked.call("POST", f"/infer/{MODEL}?output=image", multipart("file", content, name), MULTIPART), *statuses
    )


def test_decompression_bombs(attacked, unchanged):
    content = bomb(60_000, 60_000)
    refused(attacked.call("PUT", "/datastore/image?image=new", multipart("file", content), MULTIPART), 400)
    refused(attacked.call("PUT", "/datastore/label?image=case_0", multipart("label", content), MULTIPART), 422)
    refused(attacked.call("PUT", "/page/label?id=case_0", content, {"Content-Type": "image/png"}), 415, 422)


def test_uploads_that_are_too_large(attacked, unchanged):
    large = multipart("file", os.urandom(2 * 2**20))
    refused(attacked.call("PUT", "/datastore/image?image=new", large, MULTIPART), 413)
    refused(attacked.call("POST", f"/infer/{MODEL}?output=image", large, MULTIPART), 413)
    declared = (
        f"PUT {token(attacked)}/datastore/image?image=new HTTP/1.1\r\nHost: {host(attacked)}\r\nConnection: close\r\n"
    )
    chunks = b"%x\r\n" % 2**20 + bytes(2**20) + b"\r\n"
    request = (declared + f"Content-Type: {MULTIPART['Content-Type']}\r\nTransfer-Encoding: chunked\r\n\r\n").encode()
    refused(raw(attacked, request + 2 * chunks + b"0\r\n\r\n"), 413)


def test_two_lengths_of_a_body(attacked, unchanged):
    head = f"POST {token(attacked)}/train/{MODEL} HTTP/1.1\r\nHost: {host(attacked)}\r\nConnection: close\r\n"
    for more in ("Content-Length: 2\r\nContent-Length: 3\r\n", "Content-Length: -1\r\n", "Content-Length: x\r\n"):
        status, _ = raw(attacked, head + more + "Content-Type: application/json\r\n\r\n{}")
        assert 400 <= status < 500
    status, _ = raw(attacked, head.replace("Host:", "Host: evil.example\r\nHost:") + "Content-Length: 0\r\n\r\n")
    assert 400 <= status < 500


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (multipart("label", png(95, 60)), "95 x 60"),
        (multipart("label", png(90, 60, value=7)), "values 7"),
        (multipart("label", b"text"), "no image"),
        (multipart("file", png(90, 60)), "part"),
        (multipart(None), "no file"),
        (multipart("label", png(90, 60), params='{"ts": 1}'), "No option 'ts'"),
        (b"no multipart", "multipart"),
        (multipart("label", png(90, 60), params='{"label_info": [{"name": "$x", "idx": 1}]}'), "holds one of"),
    ],
)
def test_labels_that_are_none(attacked, unchanged, body, why):
    assert why in refused(attacked.call("PUT", "/datastore/label?image=case_0&tag=final", body, MULTIPART), 400, 422)


@pytest.mark.parametrize("tag", ["..", "../../x", "%24x", "other", "final/../..", "final%00"])
def test_labels_with_bad_tags(attacked, unchanged, tag):
    refused(
        attacked.call("PUT", f"/datastore/label?image=case_0&tag={tag}", multipart("label", png(90, 60)), MULTIPART),
        422,
    )


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (png(91, 60), (422,)),
        (png(90, 60, value=2), (422,)),
        (png(90, 60, mode="RGB", value=(255, 0, 0)), (422,)),
        (b"text", (415,)),
        (b"", (415,)),
        (png(90, 60)[:-30], (415,)),
    ],
)
def test_labels_of_the_page_that_are_none(attacked, unchanged, content, statuses):
    refused(attacked.call("PUT", "/page/label?id=case_0", content, {"Content-Type": "image/png"}), *statuses)
    refused(attacked.call("PUT", "/page/label?id=case_0", png(90, 60), {"Content-Type": "text/plain"}), 415)
