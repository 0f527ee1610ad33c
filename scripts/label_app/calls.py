# SPDX-License-Identifier: Apache-2.0
"""The calls of MONAI Label that this server answers, by the functions of MONAI Label's own endpoints. It refuses all
other calls, and values outside the types and ranges that are stated here and in options.py.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import options
import torch
from fastapi import APIRouter, BackgroundTasks, Depends, Form, HTTPException, Response, UploadFile
from monailabel.endpoints import activelearning, batch_infer, datastore, infer, info, scoring, train
from monailabel.interfaces.utils.app import app_instance
from options import ImageId, Model, Tag
from pydantic import Json
from uploads import received, renumber

from unetv2_monai.core.listing import stem
from unetv2_monai.data.checks import check_pair, image_size

TURN = asyncio.Lock()


async def in_turn() -> AsyncIterator[None]:
    """Allow one call at a time, since MONAI Label computes within a call."""
    async with TURN:
        yield


router = APIRouter(dependencies=[Depends(in_turn, scope="function")])

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
    params: Annotated[Json[options.Infer], Form()] = options.Infer(),
    file: UploadFile | None = None,
) -> Any:
    given = params.model_dump_json(exclude_unset=True, exclude_none=True)
    if file is None and not image:
        raise HTTPException(422, "There is neither an image's id nor a file in the part 'file'.")
    with received(file, app_instance().volumes) if file else nullcontext() as path:
        if path:
            image_size(str(path))  # decodes it
        return infer.run_inference(background, model, str(path or image), "", given, None, None, output)


@router.post("/activelearning/{strategy}")
def post_next(strategy: options.Strategy, given: options.Options = options.Options()) -> Any:
    return activelearning.sample(strategy, given.passed_on())


@router.post("/train/{model}")
def post_training(model: Model, given: options.Train = options.Train(), run_sync: bool = False) -> Any:
    found = train.run_model(model, given.passed_on(), run_sync)
    if not run_sync:
        app_instance().trainings.follow(found)
    return found


@router.post("/scoring/{model}")
def post_scoring(model: Model, given: options.Score = options.Score(), run_sync: bool = False) -> Any:
    return scoring.run_method(model, given.passed_on(), run_sync)


@router.post("/batch/infer/{model}")
def post_batch(
    model: Model,
    given: options.BatchInfer = options.BatchInfer(),
    images: options.Images = "all",
    run_sync: bool = False,
) -> Any:
    if not torch.cuda.is_available():
        given.multi_gpu = False  # MONAI Label 0.8.5 would divide by the number of GPUs
    return batch_infer.run(model, images, given.passed_on(), run_sync)


@router.put("/datastore")
@router.put("/datastore/image")
def put_image(
    file: UploadFile, image: str = "", params: Annotated[Json[options.Options], Form()] = options.Options()
) -> Any:
    app = app_instance()
    with received(file, app.volumes) as path:
        image_size(str(path))  # decodes it
        name = options.new_id(image or stem(Path(file.filename or "")))
        return {"image": app.datastore().add_image(name, str(path), params.passed_on())}


@router.api_route("/datastore/image", methods=["GET", "HEAD"])
def get_image(image: ImageId) -> Response:
    return datastore.download_image(image)


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
def put_label(
    image: ImageId,
    label: UploadFile,
    tag: Tag = "final",
    params: Annotated[Json[options.LabelSaved], Form()] = options.LabelSaved(),
) -> Any:
    app, given = app_instance(), params.passed_on()
    with received(label, app.volumes) as path:
        if app.volumes and given.get("label_info"):
            renumber(path, given["label_info"], app.task.labels)
            given["label_info"] = [{"name": name, "idx": value} for name, value in app.task.labels.items()]
        check_pair({"image": app.datastore().get_image_uri(image), "label": str(path)}, app.out_channels)
        return {"image": image, "label": app.datastore().save_label(image, str(path), tag, given)}


@router.get("/datastore/label/info")
def get_label_info(label: ImageId, tag: Tag) -> Any:
    return datastore.get_label_info(label, tag)
