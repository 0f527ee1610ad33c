# SPDX-License-Identifier: Apache-2.0
"""The page's own calls. The guard has checked their values; what computes runs in threads."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from display import displayed
from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance
from PIL import Image
from predictions import png, save
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route
from training import MAX_EPOCHS
from uploads import check_png
from values import Refused

from unetv2_monai import to_mask
from unetv2_monai.data.checks import image_size

__all__ = ["page"]

FOLDER = Path(__file__).parent / "page"
TYPES = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
# the first ones stand out from mucosa and skin
COLORS = ("#00e5ff", "#7dff3c", "#e45cff", "#ffe600", "#4d7dff", "#ff7b1c", "#00c08b", "#ff4040")
UPRIGHT = (None, 1)  # EXIF orientations
ORIENTATION = 0x0112


def static(request: Request) -> Response:
    path = FOLDER / request.path_params.get("path", "index.html")
    if not path.is_file():
        raise HTTPException(404, "The page has no such file.")
    return FileResponse(path, media_type=TYPES.get(path.suffix))


def state(request: Request) -> Response:
    app = app_instance()
    store, weights = app.datastore(), app.weights()
    objects = store.json()["objects"]
    labels = sorted(app.task.labels.items(), key=lambda item: item[1])
    labelled = store.get_labeled_images()
    held_out = set(app.labelling.held_out(labelled))

    def image_state(name: str, entry: dict[str, Any]) -> str:
        if "final" in entry["labels"]:
            return "corrected"
        return "predicted" if app.predictions.kept(store, name, weights) else "new"

    return JSONResponse(
        {
            "model": app.model,
            "classes": [
                {"value": value, "name": name, "color": COLORS[index % len(COLORS)]}
                for index, (name, value) in enumerate(labels)
            ],
            "images": [
                {
                    "id": name,
                    "state": image_state(name, entry),
                    "uncertainty": uncertainty(entry),
                    "held_out": name in held_out,
                }
                for name, entry in sorted(objects.items())
            ],
            "labelled": len(labelled),
            "training": app.trainings.state(),
            "max_epochs": MAX_EPOCHS,
            "volumes": app.volumes,
            "withdraws": store.withdrawn is not None,
        }
    )


def uncertainty(entry: dict[str, Any]) -> float | None:
    return entry["image"]["info"].get("epistemic_entropy")


def image(request: Request) -> Response:
    """The file itself where every browser shows it as the bundle reads it, else a PNG for the eye."""
    path = Path(path_of(request))
    try:
        with Image.open(path) as opened:
            opened.load()
            plain = opened.mode in ("RGB", "L") and opened.getexif().get(ORIENTATION) in UPRIGHT
            plain = plain and not {"icc_profile", "gamma", "transparency", "chromaticity"} & opened.info.keys()
            if plain and opened.format in ("PNG", "JPEG"):
                return Response(path.read_bytes(), media_type=f"image/{opened.format.lower()}")
            found, note = displayed(opened)
            headers = {"page-note": note} if note else {}
            return Response(png(found, compress_level=0), headers=headers, media_type="image/png")  # packing is slower
    except Exception as error:  # image decoders raise almost anything
        raise HTTPException(422, f"'{path.name}' cannot be read: {str(error).splitlines()[0]}") from error


def prediction(request: Request) -> Response:
    path_of(request)
    try:
        return Response(app_instance().predictions.get(request.query_params["id"]), media_type="image/png")
    except HTTPException as error:
        raise HTTPException(422, error.detail) from error


def get_label(request: Request) -> Response:
    store, name = app_instance().datastore(), request.query_params["id"]
    version = store.version(name)  # before the file is read: of an older one, saving is refused, of a newer one not
    if version == "none":
        raise HTTPException(404, "There is no label of this image yet.")
    with Image.open(store.get_label_uri(name, "final")) as opened:
        label = png(to_mask(opened, app_instance().out_channels))
    return Response(label, headers={"label-version": version}, media_type="image/png")


def put_label(request: Request, body: bytes) -> Response:
    """Refused (409) where the label is not of the version that the query says it replaces."""
    app, name = app_instance(), request.query_params["id"]
    store = app.datastore()
    label = check_png(body, image_size(path_of(request)), len(app.task.labels))
    info = {"from": "page", "replaces": request.query_params.get("replaces")}
    found = {"id": name, "state": "corrected", "version": save(store, name, "final", png(label), info)}
    return JSONResponse({**found, "labelled": len(store.get_labeled_images())})


def withdraw_label(request: Request) -> Response:
    store, name = app_instance().datastore(), request.query_params["id"]
    moved = store.withdraw(name)
    labelled = len(store.get_labeled_images())
    return JSONResponse({"id": name, "file": f"{moved.parent.name}/{moved.name}", "labelled": labelled})


def next_image(request: Request, body: dict[str, Any]) -> Response:
    objects = app_instance().datastore().json()["objects"]
    skipped = set(body.get("skip", ()))
    left = sorted(name for name, entry in objects.items() if "final" not in entry["labels"] and name not in skipped)
    strategy = body.get("strategy", "uncertainty")
    if not left:
        return JSONResponse({"id": None})
    if strategy == "random":
        return JSONResponse({"id": random.choice(left)})
    if strategy == "uncertainty":  # the first of those that have none, as long as none has any
        left.sort(key=lambda name: -(uncertainty(objects[name]) or 0.0))
    return JSONResponse({"id": left[0]})


def train(request: Request, body: dict[str, Any]) -> Response:
    app = app_instance()
    refuse_volumes(app)
    app.trainings.start(body.get("max_epochs", MAX_EPOCHS))
    return JSONResponse(app.trainings.state(), 202)


def training(request: Request) -> Response:
    return JSONResponse(app_instance().trainings.state())


def stop(request: Request) -> Response:
    app_instance().trainings.stop()
    return JSONResponse(app_instance().trainings.state())


def path_of(request: Request) -> str:
    app = app_instance()
    refuse_volumes(app)
    return app.datastore().get_image_uri(request.query_params["id"])


def refuse_volumes(app: Any) -> None:
    if app.volumes:
        raise HTTPException(422, "The page shows images of two dimensions. Use 3D Slicer for volumes.")


def threaded(answer: Callable[..., Response], body: str = "") -> Callable[[Request], Any]:
    """An endpoint that runs in a thread; with the request's body as ``"bytes"`` or ``"json"``."""

    async def endpoint(request: Request) -> Response:
        sent = await request.body() if body else b""
        arguments = {"": (), "bytes": (sent,), "json": (await request.json() if body == "json" and sent else {},)}[body]
        return await run_in_threadpool(answer, request, *arguments)

    return endpoint


async def refused(request: Request, error: Exception) -> Response:
    status = getattr(error, "status", None) or getattr(error, "status_code", 500)
    return JSONResponse({"detail": str(getattr(error, "detail", error))}, status, getattr(error, "headers", None))


page = Starlette(
    routes=[
        Route("/", threaded(static)),
        Route("/page/state", threaded(state)),
        Route("/page/image", threaded(image)),
        Route("/page/prediction", threaded(prediction)),
        Route("/page/label", threaded(get_label)),
        Route("/page/label", threaded(put_label, "bytes"), methods=["PUT"]),
        Route("/page/label", threaded(withdraw_label), methods=["DELETE"]),
        Route("/page/next", threaded(next_image, "json"), methods=["POST"]),
        Route("/page/train", threaded(training)),
        Route("/page/train", threaded(train, "json"), methods=["POST"]),
        Route("/page/train", threaded(stop), methods=["DELETE"]),
        Route("/page/{path:path}", threaded(static)),
    ],
    exception_handlers={Refused: refused, HTTPException: refused},
)
