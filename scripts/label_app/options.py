# SPDX-License-Identifier: Apache-2.0
"""Types of the values in requests. Some of these values become parts of a config, and a config can run code. So each
value has a type and a range. Only ids of images are free strings, since they are names of the user's files.
"""

import re
from collections.abc import Callable, Collection
from typing import Annotated, Any, Literal

from fastapi import HTTPException
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import device_list
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

NEW_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,127}")


def among(kind: str, choices: Callable[[], Collection[Any]]) -> AfterValidator:
    """Return a validator that answers 404 to a value which is not among the choices at that time."""

    def check(value: Any) -> Any:
        if value not in (known := choices()):
            raise HTTPException(404, f"No {kind} {str(value)[:60]!r}. There is: {', '.join(map(str, known))[:200]}.")
        return value

    return AfterValidator(check)


def new_id(name: str) -> str:
    """Check the id of an image that is uploaded, and return it."""
    if not NEW_ID.fullmatch(name) or name.endswith("."):
        sentence = "An id is letters, digits, spaces and . _ -, at most 128, and begins with a letter or a digit."
        raise HTTPException(422, sentence)
    if name in app_instance().datastore().list_images():
        raise HTTPException(409, f"There is an image '{name}' already. Images are not replaced: choose another id.")
    return name


def known_device(name: str) -> str:
    if name not in device_list() and not re.fullmatch(r"cpu|cuda(:\d{1,2})?", name):
        raise ValueError("a device is cpu, cuda or cuda:0")
    return name


def plain(text: str) -> str:
    if re.search(r"[$@%]|_target_", text):
        raise ValueError("$, @, % and _target_ have a meaning in configs, and are not accepted")
    return text


Model = Annotated[str, among("model", lambda: [app_instance().model])]
ImageId = Annotated[str, among("image", lambda: app_instance().datastore().list_images())]
Device = Annotated[str, AfterValidator(known_device)]
Epochs = Annotated[int, Field(strict=True, ge=1, le=10_000)]
Frames = Annotated[int, Field(ge=-50, le=50)]  # negative: the ones before
Count = Annotated[int, Field(strict=True, ge=0, le=1_000_000)]
Workers = Annotated[int, Field(strict=True, ge=0, le=64)]
Strategy = Literal["uncertainty", "random", "first"]
Images = Literal["all", "labeled", "unlabeled"]
Output = Literal["image", "json", "all"]
Tag = Literal["final", "original"]
Version = Annotated[str, Field(pattern=r"^(none|\d{1,20}-\d{1,20})$")]
SavedWeights = Annotated[Literal["model.pt", ""], Field(exclude=True)]


class Options(BaseModel):
    """Options of every call. Unknown ones are refused."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())
    client_id: Annotated[str, Field(pattern="^[A-Za-z0-9._ -]{0,128}$")] | None = None

    def passed_on(self) -> dict[str, Any]:
        """Return the options that the client has set, for MONAI Label."""
        return self.model_dump(exclude_unset=True, exclude_none=True)


class Computing(Options):
    """Options of calls that compute. A list stands for its first entry: clients send back the choices of ``/info/``."""

    device: Device = "cuda"

    @field_validator("*", mode="before")
    @classmethod
    def first_of_list(cls, value: Any) -> Any:
        return value[0] if isinstance(value, list) and value else value


class Background(Computing):
    """Options of calls that compute in a process of their own."""

    multi_gpu: bool = True
    gpus: Annotated[str, Field(pattern=r"^(all|\d{1,2}(,\d{1,2}){0,15})$")] | None = None
    logging: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


class Infer(Computing):
    model_filename: SavedWeights = ""
    output: Output = "image"
    result_extension: Literal[".png", ".nii.gz", ".nii", ".nrrd"] = ".png"
    result_dtype: Literal["uint8", "uint16", "int16", "float32"] = "uint8"
    result_compress: bool = False
    save_label: bool = False
    label_tag: Literal["original"] = "original"


class Train(Background):
    """Options of a training. Those with ``exclude=True`` accept MONAI Label's defaults only, and are not passed on."""

    max_epochs: Epochs = 50
    val_split: Annotated[float, Field(strict=True, ge=0, le=0.9, allow_inf_nan=False)] = 0.2
    pretrained: bool = True
    model_filename: SavedWeights = ""
    run_id: Annotated[Literal["run", ""], Field(exclude=True)] = ""
    tracking: Annotated[Literal["None", ""], Field(exclude=True)] = ""
    tracking_uri: Annotated[Literal[""], Field(exclude=True)] = ""
    tracking_experiment_name: Annotated[Literal[""], Field(exclude=True)] = ""


class Score(Background):
    max_samples: Count = 0
    simulation_size: Annotated[int, Field(strict=True, ge=2, le=100)] = 5
    max_workers: Workers = 0


class BatchInfer(Background, Infer):
    max_workers: Workers = 0
    max_batch_size: Count = 0


class Segment(BaseModel):
    """A segment of a label, as 3D Slicer states it. Its colour is dropped."""

    name: Annotated[str, Field(max_length=128), AfterValidator(plain)]
    idx: Annotated[int, Field(strict=True, ge=0, lt=2**16)]


class LabelSaved(Options):
    label_info: Annotated[list[Segment], Field(max_length=256)] | None = None


class Next(Options):
    """Options of the page's call for the next image: the ids that were skipped."""

    skip: list[str] = []


class NewTraining(Options):
    max_epochs: Epochs = 25  # as good as 50 at 0.0003, in half of the time: docs/results
