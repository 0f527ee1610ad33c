# SPDX-License-Identifier: Apache-2.0
"""
The calls of MONAI Label that this server answers, by the functions of MONAI Label's own endpoints. It refuses all other
calls, and values outside the types and ranges that are stated here and in options.py.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import options
import torch
from fastapi import APIRouter, BackgroundTasks, Depends, Form, HTTPException, Query, Request, Response, UploadFile
from monailabel.endpoints import activelearning, batch_infer, datastore, infer, info, scoring, train
from monailabel.interfaces.utils.app import app_instance
from options import Flag, ImageId, Model, Tag, checked
from uploads import name_of, received, renumber

from unetv2_monai.core.listing import stem
from unetv2_monai.data.checks import check_pair, image_size

TURN = asyncio.Lock()


async def in_turn() -> AsyncIterator[None]:
    """Allow one call at a time, since MONAI Label computes within a call."""
    async with TURN:
        yield


def json_body(model: type[options.Options]) -> Any:
    """Return a FastAPI parameter that holds the checked options of a JSON body."""

    async def read(request: Request) -> dict[str, Any]:
        body = await request.body()
        if body and request.headers.get("content-type", "").split(";")[0].strip().lower() != "application/json":
            raise HTTPException(415, "The body is not declared as JSON: send Content-Type: application/json.")
        return checked(model, body)

    return Depends(read)


router = APIRouter(dependencies=[Depends(in_turn, scope="function")])
Params = Annotated[str, Form()]
CheckSum = Annotated[str, Query(pattern="^((SHA256|SHA512|MD5):)?[0-9a-fA-F]{32,128}$")]

router.get("/info")(info.app_info)
router.get("/datastore")(datastore.datastore)
for path, task in (("/train", train), ("/scoring", scoring), ("/batch/infer", batch_infer)):
    router.get(path)(task.status)
    router.delete(path)(task.stop)


@router.post("/infer/{model}")
def post_infer(
    model: Model,
    background: BackgroundTasks,
    image: ImageId = "",
    output: options.Output | None = None,
    params: Params = "",
    file: UploadFile | None = None,
) -> Any:
    given = json.dumps(checked(options.Infer, params))
    if file is None and not image:
        raise HTTPException(422, "There is neither an image's id nor a file in the part 'file'.")
    with received(file, app_instance().volumes) if file else nullcontext() as path:
        if path:
            image_size(str(path))  # decodes it
        return infer.run_inference(background, model, str(path or image), "", given, None, None, output)


@router.post("/activelearning/{strategy}")
def post_next(strategy: options.Strategy, given: Annotated[dict, json_body(options.Options)]) -> Any:
    return activelearning.sample(strategy, given)


@router.post("/train/{model}")
def post_training(
    model: Model, given: Annotated[dict, json_body(options.Train)], run_sync: Flag = False, enqueue: Flag = False
) -> Any:
    found = train.run_model(model, given, run_sync, enqueue)
    if not run_sync:
        app_instance().trainings.follow(found)
    return found


@router.post("/scoring/{model}")
def post_scoring(model: Model, given: Annotated[dict, json_body(options.Score)], run_sync: Flag = False) -> Any:
    return scoring.run_method(model, given, run_sync)


@router.post("/batch/infer/{model}")
def post_batch(
    model: Model,
    given: Annotated[dict, json_body(options.BatchInfer)],
    images: options.Images = "all",
    run_sync: Flag = False,
) -> Any:
    if not torch.cuda.is_available():
        given["multi_gpu"] = False  # MONAI Label 0.8.5 would divide by the number of GPUs
    return batch_infer.run(model, images, given, run_sync)


@router.put("/datastore")
@router.put("/datastore/image")
def put_image(file: UploadFile, image: str = "", params: Params = "") -> Any:
    app, given = app_instance(), checked(options.Options, params)
    with received(file, app.volumes) as path:
        image_size(str(path))  # decodes it
        name = options.new_id(image or stem(Path(name_of(file))))
        return {"image": app.datastore().add_image(name, str(path), given)}


@router.get("/datastore/image")
def get_image(image: ImageId) -> Response:
    return datastore.download_image(image)


@router.head("/datastore/image")
def head_image(image: ImageId, check_sum: CheckSum | None = None) -> Any:
    return datastore.download_image(image, True, check_sum)


@router.get("/datastore/image/info")
def get_image_info(image: ImageId) -> Any:
    return datastore.get_image_info(image)


@router.get("/datastore/label")
def get_label(label: ImageId, tag: Tag) -> Response:
    return datastore.download_label(label, tag)


@router.head("/datastore/label")
def head_label(image: ImageId, tag: Tag) -> Any:
    return datastore.download_label(image, tag, True)


@router.put("/datastore/label")
def put_label(image: ImageId, label: UploadFile, tag: Tag = "final", params: Params = "") -> Any:
    app, given = app_instance(), checked(options.LabelSaved, params)
    with received(label, app.volumes) as path:
        if app.volumes and given.get("label_info"):
            renumber(path, given["label_info"], app.task.labels)
            given["label_info"] = [{"name": name, "idx": value} for name, value in app.task.labels.items()]
        check_pair({"image": app.datastore().get_image_uri(image), "label": str(path)}, app.out_channels)
        return {"image": image, "label": app.datastore().save_label(image, str(path), tag, given)}


@router.get("/datastore/label/info")
def get_label_info(label: ImageId, tag: Tag) -> Any:
    return datastore.get_label_info(label, tag)
