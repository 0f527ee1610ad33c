# SPDX-License-Identifier: Apache-2.0
"""The page's own calls."""

from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Annotated, Any

from carry import carry_over
from fastapi import APIRouter, Depends, HTTPException, Request, UploadFile
from fastapi.responses import FileResponse, Response
from monailabel.interfaces.utils.app import app_instance
from options import ImageId, NewTraining, Next, Version
from PIL import ExifTags, Image
from store import changed
from uploads import received

from unetv2_monai import to_rgb
from unetv2_monai.core.files import encoded, grey_png
from unetv2_monai.data.checks import check_pair, read_mask

FOLDER = Path(__file__).parent / "page"
# the first colours stand out from mucosa and skin
COLORS = ("#00e5ff", "#7dff3c", "#e45cff", "#ffe600", "#4d7dff", "#ff7b1c", "#00c08b", "#ff4040")
OTHERWISE_SHOWN = {"icc_profile", "gamma", "transparency", "chromaticity"}  # metadata that browsers apply


def refuse_volumes() -> None:
    if app_instance().volumes:
        raise HTTPException(422, "The page shows images of two dimensions. Use 3D Slicer for volumes.")


router = APIRouter()
of_images = APIRouter(dependencies=[Depends(refuse_volumes)])
of_images.post("/page/carry")(carry_over)


@router.get("/")
def index() -> Response:
    return FileResponse(FOLDER / "index.html")


@router.get("/page/state")
def state() -> dict[str, Any]:
    app = app_instance()
    store = app.datastore()
    held_out = set(store.held_out())
    images = []
    for name, entry in sorted(store.json()["objects"].items()):
        found = "corrected" if "final" in entry["labels"] else "predicted" if app.predicted(name) else "new"
        listed = {"id": name, "state": found, "uncertainty": uncertainty(entry), "held_out": name in held_out}
        confidence = entry["labels"]["original"]["info"].get("confidence") if found == "predicted" else None
        images.append({**listed, "confidence": confidence})
    classes = sorted(app.task.labels.items(), key=lambda item: item[1])
    return {
        "model": app.model,
        "classes": [{"value": value, "name": name, "color": c} for (name, value), c in zip(classes, cycle(COLORS))],
        "images": images,
        "labelled": len(store.get_labeled_images()),
        "training": app.trainings.state(),
        "max_epochs": NewTraining().max_epochs,
        "volumes": app.volumes,
        "withdraws": store.withdrawn is not None,
    }


def uncertainty(entry: dict[str, Any]) -> float | None:
    return entry["image"]["info"].get("epistemic_entropy")


@of_images.get("/page/image")
def image(id: ImageId) -> Response:
    """Return the file itself if every browser shows it as the bundle reads it, else a PNG for display."""
    path = Path(app_instance().datastore().get_image_uri(id))
    headers = {"image-version": changed(str(path))}  # read before the file, as that of a label
    with decoding(path), Image.open(path) as opened:
        opened.load()
        plain = opened.mode in ("RGB", "L") and opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
        if plain and opened.format in ("PNG", "JPEG") and not OTHERWISE_SHOWN & opened.info.keys():
            return Response(path.read_bytes(), headers=headers, media_type=f"image/{opened.format.lower()}")
        found, note = displayed(opened)
        headers |= {"page-note": note} if note else {}
        content = encoded(found, "PNG", compress_level=0)  # packing is slower
        return Response(content, headers=headers, media_type="image/png")


def displayed(image: Image.Image) -> tuple[Image.Image, str]:
    """Return an image in RGB as the network gets it, and an ASCII sentence about its window, or no text."""
    seen = to_rgb(image)
    if window := seen.info.get("window"):
        return seen, "Grey values {:g} to {:g} are shown from black to white, to the network too.".format(*window)
    return seen, ""


@contextmanager
def decoding(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into an HTTPException that names the file."""
    try:
        yield
    except Exception as error:  # image decoders raise almost anything
        raise HTTPException(422, f"'{path.name}' cannot be read: {str(error).splitlines()[0]}") from error


@of_images.get("/page/prediction")
def prediction(id: ImageId, carried: bool = True) -> Response:
    return Response(app_instance().prediction(id, carried), media_type="image/png")


@of_images.get("/page/label")
def get_label(id: ImageId) -> Response:
    store = app_instance().datastore()
    version = store.version(id)  # read before the file: an outdated version makes saving fail, a too new one would not
    if version == "none":
        raise HTTPException(404, "There is no label of this image yet.")
    path = Path(store.get_label_uri(id, "final"))
    with decoding(path):
        label = grey_png(read_mask([str(path)], {"out_channels": app_instance().out_channels}))
    return Response(label, headers={"label-version": version}, media_type="image/png")


async def png_body(request: Request) -> bytes:
    if request.headers.get("content-type") != "image/png":
        raise HTTPException(415, "The body is not declared as PNG: send Content-Type: image/png.")
    return await request.body()


@of_images.put("/page/label")
def put_label(
    id: ImageId, body: Annotated[bytes, Depends(png_body)], replaces: Version = "", drawn_on: Version = ""
) -> dict[str, Any]:
    """Save a label; refuse it if the stored label (409) or the image's file (412) is not the version that is named."""
    app = app_instance()
    store = app.datastore()
    store.refuse_replaced(id, drawn_on)
    with received(UploadFile(BytesIO(body), filename="mask.png"), app.volumes) as label:
        check_pair({"image": store.get_image_uri(id), "label": str(label)}, app.out_channels)
    version = store.save_version(id, body, ".png", "final", {"from": "page"}, replaces, drawn_on)
    return {"id": id, "state": "corrected", "version": version, "labelled": len(store.get_labeled_images())}


@of_images.delete("/page/label")
def withdraw_label(id: ImageId) -> dict[str, Any]:
    store = app_instance().datastore()
    moved = store.withdraw(id)
    return {"id": id, "file": f"{moved.parent.name}/{moved.name}", "labelled": len(store.get_labeled_images())}


@of_images.post("/page/next")
def next_image(given: Next = Next()) -> dict[str, str | None]:
    """Return the most uncertain image without a label, or the first one if none has an uncertainty."""
    objects, skipped = app_instance().datastore().json()["objects"], {*given.skip}
    left = sorted(name for name, entry in objects.items() if "final" not in entry["labels"] and name not in skipped)
    return {"id": max(left, key=lambda name: uncertainty(objects[name]) or 0.0, default=None)}


@of_images.get("/page/train")
def training() -> dict[str, Any]:
    return app_instance().trainings.state()


@of_images.post("/page/train", status_code=202)
def train(given: NewTraining = NewTraining()) -> dict[str, Any]:
    app_instance().trainings.start(given.max_epochs)
    return training()


@of_images.delete("/page/train")
def stop() -> dict[str, Any]:
    app_instance().trainings.stop()
    return training()
