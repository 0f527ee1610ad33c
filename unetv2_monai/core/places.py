# SPDX-License-Identifier: Apache-2.0
"""Where the bundle of this package is, and its scripts."""

from pathlib import Path

from .errors import InputError

__all__ = ["bundle_dir", "scripts_dir"]

PACKAGE = Path(__file__).resolve().parents[1]
IN_WHEEL = "bundle_files"  # the folder of the package that holds the bundle where it was installed from a wheel


def bundle_dir(package: Path = PACKAGE) -> Path:
    """
    Find the bundle that belongs to this package: in it (wheel), around it (packed bundle) or beside it (repository).

    Raises:
        InputError: when none of these folders has ``configs/train.json``.
    """
    places = [package / IN_WHEEL, package.parent, package.parent / "bundle"]
    for place in places:
        if (place / "configs" / "train.json").is_file():
            return place
    raise InputError(
        f"there is no configs/train.json in {', '.join(map(str, places))}, so this installation of unetv2_monai has no "
        "bundle. Install the project's wheel, or use the package from a packed bundle or from the repository."
    )


def scripts_dir(package: Path = PACKAGE) -> Path:
    """Find the scripts: in the package (wheel) or beside it; InputError where they are not (packed bundle)."""
    for place in (package / "scripts", package.parent / "scripts"):
        if (place / "report.py").is_file():
            return place
    raise InputError(f"the scripts are not beside {package}. Install the project's wheel, or use the repository.")
