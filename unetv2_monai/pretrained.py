# SPDX-License-Identifier: Apache-2.0
"""Use trained networks in Python, with the preprocessing and the postprocessing of the bundle's configs."""

import tempfile
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.bundle import ConfigParser
from monai.transforms import Invertd, SaveImaged
from PIL import Image

from .bundle.carried import take_over
from .core.errors import InputError
from .core.images import to_rgb
from .core.places import bundle_dir
from .entries import entry_keys, read_entry, recipe_of
from .networks import UNetV2, check_weights, options_of, read_weights

PLAIN, TRAINED = "unetv2_monai.UNetV2", "unetv2_monai.pretrained.PretrainedUNetV2"


class PretrainedUNetV2(UNetV2):
    """A trained network that takes images without preparation; :py:func:`load_pretrained` makes it."""

    def predict(self, image: Any) -> tuple[np.ndarray, np.ndarray]:
        """Segment one image as ``monai.bundle run inference`` does, at its own size.

        Args:
            image: a file, a PIL image, or a uint8 array of shape (height, width, 3). For volumes: a file, or a tuple of
                an array of shape (dim_0, dim_1, dim_2) and its affine of shape (4, 4).

        Returns:
            The mask, uint8, and the probabilities, float32. The mask holds 0 and 1, or the index of the most probable
            class. The probabilities have a first dimension for the class if there are several classes.

        Raises:
            InputError: when ``image`` is none of these.
        """
        steps: Any = self.steps  # set by load_pretrained; TorchScript would reject a class attribute of this type
        device = next(self.parameters()).device
        data = steps.prepared(image)
        self.eval()
        with torch.no_grad(), torch.autocast(device.type, enabled=device.type == "cuda"):
            logits = steps.inferer(data["image"][None].to(device), self)
        return steps.finished({**data, "pred": logits[0].float()})


class Steps:
    """The steps of inference.json and its overlays before and after the network."""

    def __init__(self, parser: ConfigParser) -> None:
        self.dims = parser.get("spatial_dims", 2)
        self.inferer = parser.get_parsed_content("inferer")
        self.load, *self.before = parser.get_parsed_content("preprocessing").transforms
        steps = parser.get_parsed_content("postprocessing").transforms
        self.after = [step for step in steps if not isinstance(step, SaveImaged)]

    def prepared(self, image: Any) -> dict[str, Any]:
        """Return a dict with the preprocessed image, of shape (channels, dim_0, ...)."""
        with tempfile.TemporaryDirectory() as folder:
            path = image if isinstance(image, str | Path) else self._written(image, folder)
            data = self.load({"image": str(path)})
        for step in self.before:
            data = step(data)
        return data

    def _written(self, image: Any, folder: str) -> str:
        """Write an image that is in memory to a file, so that the config's own loader reads it."""
        if self.dims == 3:
            if not (isinstance(image, tuple) and len(image) == 2 and np.ndim(image[0]) == 3):
                raise InputError("image must be a file, or a tuple of an array of three dimensions and its affine.")
            nibabel.save(nibabel.Nifti1Image(np.asarray(image[0]), np.asarray(image[1], float)), f"{folder}/image.nii")
            return f"{folder}/image.nii"
        if not isinstance(image, Image.Image):
            values = np.asarray(image)
            if values.ndim != 3 or values.shape[2] != 3 or values.dtype != np.uint8:
                taken = "a file, a PIL image or an array of type uint8 and shape (height, width, 3)"
                raise InputError(f"image must be {taken}, got {values.dtype} of {values.shape}.")
            image = Image.fromarray(values)
        to_rgb(image).save(f"{folder}/image.bmp")
        return f"{folder}/image.bmp"

    def finished(self, data: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
        """Return the mask and the probabilities in the image's own orientation, from the image and its logits."""
        probabilities = data["pred"]
        for step in self.after:
            data = step(data)
            if isinstance(step, Invertd):
                probabilities = data["pred"].clone()
        mask = data["pred"] if data["pred"].ndim == self.dims else data["pred"][0]
        mask, probabilities = mask.cpu().numpy().astype(np.uint8), probabilities.cpu().numpy()
        probabilities = probabilities[0] if len(probabilities) == 1 else probabilities
        if self.dims == 2:  # MONAI reads an image's width before its height
            mask, probabilities = mask.T, probabilities.swapaxes(-1, -2)
        return np.ascontiguousarray(mask), np.ascontiguousarray(probabilities)


def load_pretrained(weights: str | Path, device: str | torch.device = "cpu") -> PretrainedUNetV2:
    """Build a trained network from its files.

    Args:
        weights: ``"polyps"``, ``"skin_lesions"`` or ``"volumes"``, which come with the project; the folder of a packed
            bundle, or of a training's output; or a file of weights.
        device: device of the network. Defaults to ``"cpu"``.

    Returns:
        The network in eval mode, with :py:meth:`PretrainedUNetV2.predict`.

    Raises:
        InputError: when there are no such weights, or they are of another network.
    """
    configs, path, recipe = _files(weights)
    state = read_weights(path)
    carried = options_of(state)
    recipe = recipe or recipe_of(carried)
    parser = ConfigParser()
    parser.read_config([configs / "inference.json", *([configs / "recipes" / f"{recipe}.yaml"] if recipe else [])])
    parser.update({"bundle_dir": str(configs.parent), "device": torch.device(device)})
    take_over(parser, carried, path)
    if parser["network_def"]["_target_"] != PLAIN:
        raise InputError(f"{path} has weights of {parser['network_def']['_target_']}, which is not U-Net v2.")
    parser["network_def#_target_"] = TRAINED
    parser.parse(reset=True)
    check_weights(state, parser.get_parsed_content("network_def"), path)
    network: PretrainedUNetV2 = parser.get_parsed_content("network")
    network.load_state_dict(state)
    network.steps = Steps(parser)  # type: ignore[assignment]
    return network.eval()


def _files(weights: str | Path) -> tuple[Path, Path, str | None]:
    """Return the folder of the configs, the file of the weights, and the recipe that the weights need, or None."""
    if str(weights) in entry_keys():
        entry = read_entry(str(weights))
        return bundle_dir() / "configs", entry.weights, entry.recipe
    path = Path(weights)
    if path.is_dir():
        configs = path / "configs" if (path / "configs" / "inference.json").is_file() else bundle_dir() / "configs"
        return configs, path / "models" / "model.pt", None
    if not path.is_file():
        known = ", ".join(entry_keys())
        raise InputError(f"there are no weights {str(weights)!r}: it is no file or folder, and none of {known}.")
    return bundle_dir() / "configs", path, None
