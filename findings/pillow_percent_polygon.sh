#!/bin/sh
# Pillow 13.0.0, label-studio-sdk 2.1.2: a polygon that was in whole pixels loses or gains a line of pixels on its way
# through Label Studio's percentages. ImageDraw.polygon cuts the decimals of a corner off, it does not round. 2 of 24
# pixels are 8.33 percent, and back they are 1.9999999999999998, which becomes 1.
# Seen for the triangle (2, 2), (12, 2), (2, 12) in an image of 24 x 20: 66 pixels as it is and with corners rounded to
# six decimals, 71 with the corners that the percentages give.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check label-studio-sdk==2.1.2 pillow==13.0.0
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
from label_studio_sdk.converter.imports.coco import create_segmentation
from PIL import Image, ImageDraw


def pixels(points):
    image = Image.new("L", (24, 20))
    ImageDraw.Draw(image).polygon(points, fill=1, outline=1)
    return sum(image.tobytes())


triangle = [2, 2, 12, 2, 2, 12]
label = create_segmentation(1, triangle, {1: "a"}, "label", 20, 24, "image")
back = [value for x, y in label["value"]["points"] for value in (x * 24 / 100, y * 20 / 100)]
found = [pixels(points) for points in (triangle, back, [round(value, 6) for value in back])]
print(f"as drawn {found[0]}, through percentages {found[1]}, rounded {found[2]} pixels; corners {back}")
assert found == [66, 71, 66], found
PYTHON
