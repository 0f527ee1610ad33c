#!/usr/bin/env bash
# Pillow 13.0.0 opens an uncompressed TIFF of 16-bit colours with a plane for each channel (PlanarConfiguration 2), and
# returns wrong pixels without an error: it takes each byte of a plane for a pixel. Low and high bytes alternate, and the
# lower half of the picture is lost. The same colours pixel by pixel come as their upper 8 bits.
# Right: refuse tag 284 = 2 with more than 8 bits in tag 258, or read the file by tifffile.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q pillow==13.0.0 numpy==2.2.6 tifffile==2025.5.10
cd "$folder"
env/bin/python - <<'PYTHON'
import numpy as np
import tifffile
from PIL import Image

values = np.arange(8 * 8 * 3, dtype=np.uint16).reshape(8, 8, 3) * 300
tifffile.imwrite("pixels.tif", values, photometric="rgb")
tifffile.imwrite("planes.tif", values.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
np.testing.assert_array_equal(tifffile.imread("planes.tif").transpose(1, 2, 0), values)
pixels, planes = (np.asarray(Image.open(f"{name}.tif")) for name in ("pixels", "planes"))
np.testing.assert_array_equal(pixels, values >> 8)
assert planes.shape == pixels.shape and not np.array_equal(planes, pixels)
for channel in range(3):  # the bytes of the plane, of which there are twice as many as pixels
    plane = np.ascontiguousarray(values[..., channel]).view(np.uint8).ravel()
    np.testing.assert_array_equal(planes[..., channel].ravel(), plane[: plane.size // 2])
print("first pixels by planes:", planes[0, :4].tolist(), "; right:", pixels[0, :4].tolist())
PYTHON
