#!/usr/bin/env bash
# Pillow 13.0.0 saves a torn JPEG without an error when the disk fills up within its last write: the encoder takes a
# short write for a whole one. PNG, TIFF and BMP raise OSError. A limit on the size of files stands for the full disk.
# Right: encode into io.BytesIO, write those bytes by Python, which checks, and fsync.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q pillow==13.0.0 numpy==2.2.6
cd "$folder"
env/bin/python - <<'PYTHON'
import os
import resource

import numpy as np
from PIL import Image

image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3)).astype(np.uint8))
image.save("whole.jpg", quality=92)
size = os.path.getsize("whole.jpg")
resource.setrlimit(resource.RLIMIT_FSIZE, (size - 100, size - 100))
image.save("torn.jpg", quality=92)  # no error
assert os.path.getsize("torn.jpg") == size - 100
try:
    Image.open("torn.jpg").load()
except OSError as error:
    assert "truncated" in str(error), error
else:
    raise AssertionError("the file is whole")
try:
    image.save("torn.png")
except OSError as error:
    print("JPEG: torn, no error. PNG:", error)
else:
    raise AssertionError("PNG: no error")
PYTHON
