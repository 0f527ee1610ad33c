# SPDX-License-Identifier: Apache-2.0
"""Attacks on a running server, by who calls and what: each is refused with a sentence, and no file is changed."""

import http.client
import shutil
import socket
import stat
import subprocess
import time
import urllib.parse
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from ...support.workflow import cases
from .attacks import PYTHON, blank, host, listing, raw, refused, send, token
from .support import JSON, MODEL, PNG, labelling, wait_for

pytest.importorskip("monailabel")

CLOSED = cases("attacks", "closed")


@pytest.mark.parametrize("path", cases("attacks", "without_token"))
def test_without_the_token_in_its_place(attacked, unchanged, path):
    right = token(attacked).strip("/")
    lines = (f"Authorization: Bearer {right}", f"Cookie: token={right}")
    assert "token" in refused(raw(attacked, "GET", path.format(token=right), *lines), 403)
    refused(raw(attacked, "GET", f"/{right[:-1]}/info/"), 403)


@pytest.mark.parametrize("origin", cases("attacks", "origins"))
def test_another_origin(attacked, unchanged, origin):
    for method, path in (("GET", "/info/"), ("GET", "/page/state"), ("OPTIONS", "/info/"), ("POST", f"/train/{MODEL}")):
        refused(attacked.call(method, path, b"{}" if method == "POST" else None, {"Origin": origin, **JSON}), 403)


@pytest.mark.parametrize("site", ["cross-site", "same-site", "nonsense"])
def test_another_site(attacked, unchanged, site):
    def status(path: str, mode: str, destination: str) -> int:
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": mode, "Sec-Fetch-Dest": destination}
        return attacked.call("GET", path, None, headers)[0]

    assert status("/page/state", "", "") == 403
    assert status("/", "no-cors", "image") == 403
    assert status("/", "navigate", "iframe") == 403
    assert status("/datastore/?output=all", "navigate", "document") == 403
    assert status("/", "navigate", "document") == 200


@pytest.mark.parametrize("name", cases("attacks", "hosts"))
def test_another_host(attacked, unchanged, name):
    refused(raw(attacked, "GET", f"{token(attacked)}/info/", name=name), 400, 403)


def test_the_own_names(attacked):
    port = host(attacked).split(":")[1]
    for name in (f"localhost:{port}", f"127.0.0.1:{port}", f"{socket.gethostname()}:{port}", "[::1]:80"):
        assert raw(attacked, "GET", f"{token(attacked)}/info/", f"Origin: http://{name}", name=name)[0] == 200


def test_an_address_without_its_slash_leads_to_the_page(attacked):
    assert raw(attacked, "GET", token(attacked))[0] == 307
    assert attacked.call("GET", "")[1] == attacked.call("GET", "/")[1]


@pytest.mark.parametrize("path", ["/info/", "/page/state", "/page/app.js", "/nothing", "/page/image?id=x"])
def test_headers_of_every_answer(attacked, path):
    connection = http.client.HTTPConnection(host(attacked))
    connection.request("GET", token(attacked) + path)
    headers = {name.lower(): value for name, value in connection.getresponse().getheaders()}
    policy = headers["content-security-policy"]
    assert all(part in policy for part in ("default-src 'self'", "frame-ancestors 'none'"))
    assert "unsafe" not in policy
    assert (headers["referrer-policy"], headers["cache-control"]) == ("same-origin", "no-store")
    assert (headers["x-content-type-options"], headers["cross-origin-resource-policy"]) == ("nosniff", "same-origin")
    assert not [name for name in headers if name.startswith("access-control")]


def test_the_token_is_in_no_log_and_on_no_command_line(attacked):
    secret = token(attacked).strip("/")
    attacked.get_json("/info/")
    assert attacked.log.read_text().count(secret) == 1  # the printed address
    for path in attacked.work_dir.rglob("*.log"):
        assert secret not in path.read_text()
    done = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True)
    assert secret not in done.stdout
    assert stat.S_IMODE(attacked.work_dir.stat().st_mode) == 0o700


@pytest.mark.parametrize(("method", "path"), [(method, path) for method in CLOSED for path in CLOSED[method].split()])
def test_closed_calls(attacked, unchanged, method, path):
    status, body = raw(attacked, method, token(attacked) + path.format(model=MODEL), "Content-Length: 0")
    assert status in (403, 404, 405), (status, body)
    if method != "HEAD":
        refused((status, body))


def test_a_websocket(attacked, unchanged):
    upgrade = ["Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Version: 13"]
    for path in (f"{token(attacked)}/info/ws", "/info/ws"):
        assert 400 <= raw(attacked, "GET", path, "Connection: Upgrade", *upgrade)[0] < 500


JSON_CALL = f"POST {{}}/train/{MODEL}", "application/json"
FILE_CALL = "PUT {}/datastore/image?image=new", "multipart/form-data; boundary=x"


@pytest.mark.parametrize(("call", "kind"), [JSON_CALL, FILE_CALL])
def test_a_client_that_stops_halfway_keeps_no_other_one_waiting(attacked, call, kind):
    name, _, port = host(attacked).partition(":")
    head = [f"{call.format(token(attacked))} HTTP/1.1", f"Host: {name}:{port}", f"Content-Type: {kind}"]
    with socket.create_connection((name, int(port))) as opened:
        opened.sendall("\r\n".join([*head, "Content-Length: 99", "", "{"]).encode())
        time.sleep(0.5)
        with urllib.request.urlopen(f"{attacked.url}/info/", timeout=60) as answer:
            assert answer.status == 200


@pytest.mark.parametrize("sent", [b"", b"GET / HTTP/1.1\r\nHost:"])
def test_connections_without_a_request_are_bounded(attacked, sent):
    """A hundred; the oldest ones are closed for others."""
    address = urllib.parse.urlsplit(attacked.url)
    with ExitStack() as held:
        opened = [held.enter_context(socket.create_connection((address.hostname, address.port))) for _ in range(130)]
        for each in opened:
            with suppress(OSError):  # it may be closed already
                each.sendall(sent)
        attacked.get_json("/info/")
        (process,) = psutil.Process(attacked.pid).children()
        wait_for(lambda: len(process.net_connections()) < 110)


def test_links_are_not_followed(attacked, images, tmp_path):
    """A link in the way of what is written is replaced or refused; its target stays."""
    target = tmp_path / "target"
    target.write_text("mine")
    dangling = attacked.work_dir / "images" / "dangling.png"
    dangling.symlink_to(tmp_path / "absent.png")
    attacked.label("case_1").symlink_to(target)
    refused(send(attacked, "/datastore/image?image=dangling", blank(9, 9)), 409)
    assert not (tmp_path / "absent.png").exists()
    assert attacked.call("PUT", "/page/label?id=case_1", blank(96, 60, 1), PNG)[0] == 200
    assert target.read_text() == "mine"
    assert not attacked.label("case_1").is_symlink()
    dangling.unlink()


def test_labels_alone_are_withdrawn(attacked, images):
    """Of a known image, by the page itself; the image, the user's folder and other labels stay."""
    for name, width in (("case_2", 102), ("case_3", 108)):
        assert attacked.call("PUT", f"/page/label?id={name}", blank(width, 60, 1), PNG)[0] == 200
    before = listing(images.parent, attacked.work_dir)
    refused(attacked.call("DELETE", "/page/label?id=case_4"), 404)  # it has none
    refused(attacked.call("DELETE", "/page/label?id=..%2F..%2Ffinal%2Fcase_2"), 404)
    refused(attacked.call("DELETE", "/page/label?id=case_2&tag=original"), 422)
    refused(attacked.call("DELETE", "/page/label?id=case_2", None, {"Origin": "http://evil.example"}), 403)
    refused(raw(attacked, "DELETE", "/page/label?id=case_2"), 403)
    assert listing(images.parent, attacked.work_dir) == before
    assert attacked.call("DELETE", "/page/label?id=case_2")[0] == 200
    after = listing(images.parent, attacked.work_dir)
    (gone,), (moved,) = before.keys() - after.keys(), after.keys() - before.keys()
    assert (gone, Path(moved).parent) == (str(attacked.label("case_2")), attacked.work_dir / "withdrawn")
    assert after.pop(moved) == before.pop(gone)
    assert {Path(name).name for name in before if after[name] != before[name]} == {"datastore_v2.json"}


def test_in_place_nothing_of_the_users_changes(images, random_weights, tmp_path):
    own = Path(shutil.copytree(images, tmp_path / "own"))
    before = listing(own)
    with labelling(tmp_path / "work", own, "--in_place", "--checkpoint", random_weights, scores=False) as server:
        refused(server.call("DELETE", "/datastore/?id=case_0"), 405)
        refused(send(server, "/datastore/image?image=case_0", blank(9, 9)), 409)
        refused(send(server, "/datastore/image", blank(9, 9), "case_0.png"), 409)
        assert server.call("PUT", "/page/label?id=case_0", blank(90, 60, 1), PNG)[0] == 200
        labelled = listing(own)
        assert refused(server.call("DELETE", "/page/label?id=case_0"), 409).startswith("With --in_place")
        assert server.get_json("/page/state")["withdraws"] is False
        assert listing(own) == labelled
    assert {name: labelled.get(name) for name in before} == before
    new = {Path(name).relative_to(own).as_posix() for name in labelled.keys() - before.keys()}
    assert new == {"datastore_v2.json", "labels/final/case_0.png"}


def test_no_token(images, random_weights, tmp_path):
    """Anybody on the machine may call, as the warning says; other web pages may not."""
    options = (images, "--checkpoint", random_weights, "--no_token")
    with labelling(tmp_path / "work", *options, scores=False) as server:
        assert urllib.parse.urlsplit(server.address).path == "/"
        assert "Warning: --no_token" in server.log.read_text()
        assert server.client.info()["datastore"]["total"] == 10
        refused(server.call("GET", "/info/", None, {"Origin": "http://evil.example"}), 403)
        browser = {"User-Agent": "Mozilla/5.0"}  # all that it sends for an <img> of another page, to an address
        for referer, status in (("", 403), ("http://evil.example/", 403), (server.address, 200)):
            headers = {**browser, "Referer": referer} if referer else browser
            assert server.call("GET", "/page/state", None, headers)[0] == status
        assert server.call("GET", "/", None, browser)[0] == 200
        assert server.post(f"/train/{MODEL}", {"max_epochs": PYTHON})[0] == 422


def test_what_the_clients_send_is_accepted(attacked):
    """3D Slicer sends back all defaults that /info/ states, some lists as they are."""
    found = {**attacked.client.info()["trainers"][MODEL]["config"], "max_epochs": 1}
    assert found.keys() >= {"run_id", "tracking", "model_filename", "gpus"}
    stated = attacked.client.info()["models"][MODEL]["config"]
    attacked.client.infer(MODEL, "case_0", {**stated, "result_dtype": "uint8"})
    slicer = {name: value[0] if isinstance(value, list) else value for name, value in found.items()}
    for options in (found, slicer):
        status, answer = attacked.post(f"/train/{MODEL}", options)
        assert status == 200, answer
        attacked.client.train_stop()
        while attacked.client.train_status(check_if_running=True):
            pass
    (attacked.work_dir / "label.png").write_bytes(blank(90, 60, 1))
    info = {"label_info": [{"name": "lesion", "idx": 1, "color": [1, 2, 3]}]}
    attacked.client.save_label("case_0", str(attacked.work_dir / "label.png"), "", info)
    stored = attacked.get_json("/datastore/label/info?label=case_0&tag=final")
    assert stored["label_info"] == [{"name": "lesion", "idx": 1}]
