# SPDX-License-Identifier: Apache-2.0
"""Find the bundle and the scripts of this package."""

from pathlib import Path

from .errors import InputError

PACKAGE = Path(__file__).resolve().parents[1]
IN_WHEEL = "bundle_files"  # the package's folder for the bundle, if the package was installed from a wheel


def bundle_dir(package: Path = PACKAGE) -> Path:
    """Find the bundle in the package (wheel), around it (packed bundle) or beside it (repository), else InputError."""
    places = [package / IN_WHEEL, package.parent, package.parent / "bundle"]
    for place in places:
        if (place / "configs" / "train.json").is_file():
            return place
    found = f"unetv2_monai has no bundle: there is no configs/train.json in {', '.join(map(str, places))}."
    raise InputError(f"{found} Install the project's wheel, or use a packed bundle or the repository.")


def scripts_dir(package: Path = PACKAGE) -> Path:
    """Find the scripts in the package (wheel) or beside it (repository); raise InputError in a packed bundle."""
    for place in (package / "scripts", package.parent / "scripts"):
        if (place / "report.py").is_file():
            return place
    raise InputError(f"the scripts are not beside {package}. Install the project's wheel, or use the repository.")
