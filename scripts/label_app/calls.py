# SPDX-License-Identifier: Apache-2.0
"""
The calls that the server answers: what is not in ``CALLS`` is refused, and so is every value that does not have the
type and the range that are stated here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode

from values import (
    Device,
    Facts,
    Fields,
    Flag,
    Ids,
    ImageId,
    LabelInfo,
    NewId,
    Number,
    OneOf,
    Refused,
    Text,
    checked_fields,
    read_json,
)

__all__ = ["CALLS", "Call", "canonical_query", "find_call"]

CLIENT: Fields = {"client_id": Text(r"[A-Za-z0-9._ -]{0,128}", "a short plain name")}
COMPUTE: Fields = {
    **CLIENT,
    "device": Device(),
    "multi_gpu": Flag(),
    "gpus": Text(r"all|\d{1,2}(,\d{1,2}){0,15}", "all or numbers such as 0,1"),
    "logging": OneOf(("DEBUG", "INFO", "WARNING", "ERROR")),
}
SAVED_WEIGHTS = OneOf(("model.pt", ""), drop=True)
INFER: Fields = {
    **CLIENT,
    "device": Device(),
    "model_filename": SAVED_WEIGHTS,
    "output": OneOf(("image", "json", "all")),
    "result_extension": OneOf((".png", ".nii.gz", ".nii", ".nrrd")),
    "result_dtype": OneOf(("uint8", "uint16", "int16", "float32")),
    "result_compress": Flag(),
    "save_label": Flag(),
    "label_tag": OneOf(("original",)),
}
TRAIN: Fields = {
    **COMPUTE,
    "max_epochs": Number(1, 10_000),
    "val_split": Number(0, 0.9, whole=False),
    "pretrained": Flag(),
    "model_filename": SAVED_WEIGHTS,
    # of MONAI Label's defaults: only these values are accepted, and none is passed on
    "run_id": OneOf(("", "run"), drop=True),
    "tracking": OneOf(("None", ""), drop=True),
    "tracking_uri": OneOf(("",), drop=True),
    "tracking_experiment_name": OneOf(("",), drop=True),
}
SCORE: Fields = {
    **COMPUTE,
    "max_samples": Number(0, 1_000_000),
    "simulation_size": Number(2, 100),
    "max_workers": Number(0, 64),
}
BATCH: Fields = {**COMPUTE, **INFER, "max_workers": Number(0, 64), "max_batch_size": Number(0, 1_000_000)}
STATUS: Fields = {"all": Flag(), "check_if_running": Flag()}
TAG = OneOf(("final", "original"))
LABEL: Fields = {"label": ImageId(), "tag": TAG}
PAGE_ID: Fields = {"id": ImageId()}
PAGE_LABEL: Fields = {**PAGE_ID, "replaces": Text(r"none|\d{1,20}-\d{1,20}", "the version of a label, or none")}


@dataclass(frozen=True)
class Call:
    """
    A call that is answered.

    Args:
        method: of HTTP.
        path: with names in braces for parts that vary; a slash at the end makes no difference.
        query: parameters of the query.
        needed: those that must be there.
        json: keys of the JSON body; None: the call has no such body.
        file: name of the part with a file, "body" where the file is the body; None: no file.
        kind: of the file: "image" or "label".
        params: keys of the JSON text in the part ``params``, beside a file.
    """

    method: str
    path: str
    query: Fields = field(default_factory=dict)
    needed: tuple[str, ...] = ()
    json: Fields | None = None
    file: str | None = None
    kind: str = ""
    params: Fields = field(default_factory=dict)

    @property
    def of_page(self) -> bool:
        return self.path == "/" or self.path.startswith("/page/")

    def check_model(self, path: str, facts: Facts) -> None:
        """The model that a path ends with must be there."""
        name = path.rsplit("/", 1)[-1]
        if self.path.endswith("{model}") and name not in facts.models:
            raise Refused(404, f"No model '{name}'. There is: {', '.join(facts.models)}.")

    def query_checked(self, text: str, facts: Facts) -> dict[str, str]:
        """The query as MONAI Label gets it; ``text`` is as it came."""
        try:
            pairs = parse_qsl(
                text, keep_blank_values=True, strict_parsing=bool(text), max_num_fields=16, errors="strict"
            )
        except ValueError:
            raise Refused(400, "The query of the address cannot be read.") from None
        names = [name for name, _ in pairs]
        if len(set(names)) < len(names):
            raise Refused(400, "The query of the address has a parameter twice.")
        given = {k: v for k, v in pairs if v or k == "image"}  # an empty parameter is the same as none
        found = checked_fields(given, self.query, facts)
        for name in self.needed:
            if name not in found:
                raise Refused(422, f"The parameter '{name}' is missing.")
        return {name: str(value).lower() if isinstance(value, bool) else value for name, value in found.items()}

    def json_checked(self, body: bytes, facts: Facts) -> dict[str, Any]:
        return checked_fields(read_json(body), self.json or {}, facts)

    def params_checked(self, text: bytes, facts: Facts) -> dict[str, Any]:
        return checked_fields(read_json(text), self.params, facts)


MODEL = "[A-Za-z0-9_.-]{1,100}"
NAMES = {  # of parts of paths
    "model": MODEL,
    "strategy": "uncertainty|random|first",
    "file": r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)+",
    "folder": "[A-Za-z0-9_-]+",
}
CHECK_SUM = Text(r"((SHA256|SHA512|MD5):)?[0-9a-fA-F]{32,128}", "a check sum")
RUN: Fields = {"run_sync": Flag()}
CALLS = (
    # of the page
    Call("GET", "/"),
    Call("GET", "/page/state"),
    Call("GET", "/page/image", PAGE_ID, ("id",)),
    Call("GET", "/page/prediction", PAGE_ID, ("id",)),
    Call("GET", "/page/label", PAGE_ID, ("id",)),
    Call("PUT", "/page/label", PAGE_LABEL, ("id",), file="body", kind="label"),
    Call("DELETE", "/page/label", PAGE_ID, ("id",)),
    Call("POST", "/page/next", json={"strategy": OneOf(("uncertainty", "random", "first")), "skip": Ids()}),
    Call("GET", "/page/train"),
    Call("POST", "/page/train", json={"max_epochs": Number(1, 10_000)}),
    Call("DELETE", "/page/train"),
    Call("GET", "/page/{file}"),
    Call("GET", "/page/{folder}/{file}"),
    # of MONAI Label
    Call("GET", "/info"),
    Call(
        "POST",
        "/infer/{model}",
        {"image": ImageId(empty=True), "output": OneOf(("image", "json", "all"))},
        file="file",
        kind="image",
        params=INFER,
    ),
    Call("POST", "/activelearning/{strategy}", json=CLIENT),
    Call("GET", "/train", STATUS),
    Call("POST", "/train/{model}", {**RUN, "enqueue": Flag()}, json=TRAIN),
    Call("DELETE", "/train"),
    Call("GET", "/scoring", STATUS),
    Call("POST", "/scoring/{model}", RUN, json=SCORE),
    Call("DELETE", "/scoring"),
    Call("GET", "/batch/infer", STATUS),
    Call("POST", "/batch/infer/{model}", {**RUN, "images": OneOf(("all", "labeled", "unlabeled"))}, json=BATCH),
    Call("DELETE", "/batch/infer"),
    Call("GET", "/datastore", {"output": OneOf(("train", "stats", "all"))}),
    Call("PUT", "/datastore", {"image": NewId()}, file="file", kind="image", params=CLIENT),
    Call("GET", "/datastore/image", {"image": ImageId()}, ("image",)),
    Call(
        "HEAD",
        "/datastore/image",
        {"image": ImageId(), "check_sum": CHECK_SUM},
        ("image",),
    ),
    Call("PUT", "/datastore/image", {"image": NewId()}, file="file", kind="image", params=CLIENT),
    Call("GET", "/datastore/image/info", {"image": ImageId()}, ("image",)),
    Call("GET", "/datastore/label", LABEL, ("label", "tag")),
    Call("HEAD", "/datastore/label", {"image": ImageId(), "tag": TAG}, ("image", "tag")),
    Call(
        "PUT",
        "/datastore/label",
        {"image": ImageId(), "tag": TAG},
        ("image",),
        file="label",
        kind="label",
        params={**CLIENT, "label_info": LabelInfo()},
    ),
    Call("GET", "/datastore/label/info", LABEL, ("label", "tag")),
)


def find_call(method: str, path: str) -> tuple[Call, str]:
    """
    Args:
        method: of HTTP.
        path: as it came, still with percent signs, without the token.

    Returns:
        The call of the table, and the path that it has in MONAI Label or the page.

    Raises:
        Refused: 404 where there is no such path, 405 where it has other methods.
    """
    plain = unquote(path)
    if "%" in plain or (plain != "/" and "//" in plain):
        raise Refused(404, "This server has no such address.")
    plain = plain.rstrip("/") or "/"
    there = [call for call in CALLS if re.fullmatch(pattern(call.path), plain)]
    for call in there:
        if call.method == method:
            # MONAI Label has these with a slash at their end
            return call, plain + "/" * (call.path in ("/info", "/train", "/scoring", "/datastore") and plain != "/")
    if there:
        raise Refused(405, f"Here the server answers {', '.join(call.method for call in there)} only.")
    raise Refused(404, "This server has no such address, or it is closed: docs/how-to/label.md lists the open ones.")


def pattern(path: str) -> str:
    return re.sub(r"{(\w+)}", lambda found: f"(?:{NAMES[found[1]]})", path.replace(".", r"\."))


def canonical_query(query: Mapping[str, str]) -> bytes:
    return urlencode(query, quote_via=quote).encode()
