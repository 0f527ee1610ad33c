#!/bin/sh
# label-studio-sdk 2.1.2: its export of brush labels to COCO changes the mask, without a word. It draws the outer contour
# of each region by OpenCV and writes it as a polygon: holes are filled, regions of one or two points are left out, and
# as the contour runs through the middles of pixels, the last row and column are lost where pycocotools fills it.
# Seen for a ring of 42 pixels (8 x 6 with a hole of 2 x 3) and a pixel of its own: 43 pixels in the brush, as its own
# decoder reads it, and one polygon of 35 pixels in COCO: all 6 of the hole are set, 13 of the edge and the single pixel
# are not.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check label-studio-sdk==2.1.2 pycocotools==2.0.11 numpy==2.2.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from label_studio_sdk.converter.exports.brush_to_coco import convert_to_coco
from pycocotools.coco import COCO

mask = np.zeros((20, 24), np.uint8)
mask[3:9, 14:22], mask[5:7, 16:19], mask[0, 0] = 255, 0, 255
brush = mask2rle(mask)
assert ((decode_rle(brush).reshape(20, 24, 4)[..., 3] > 0) == (mask > 0)).all()
label = {"type": "BrushLabels", "brushlabels": ["a"], "format": "rle", "rle": brush}
item = {"id": 1, "input": {"image": "a.png"}, "completed_by": {}, "output": {"label": [label]}}
label |= {"original_width": 24, "original_height": 20}
convert_to_coco([item], "out")
coco = COCO("out/result_coco.json")
drawn = [coco.annToMask(one) for one in coco.anns.values()]
found = sum(drawn) > 0
added, lost = int((found & (mask == 0)).sum()), int((~found & (mask > 0)).sum())
print(f"{(mask > 0).sum()} pixels, in COCO {found.sum()} in {len(drawn)} polygon: {added} added, {lost} lost")
assert (int((mask > 0).sum()), int(found.sum()), len(drawn), added, lost) == (43, 35, 1, 6, 14)
PYTHON
