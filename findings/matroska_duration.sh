#!/usr/bin/env bash
# A Matroska file whose first frame is at 5 s announces its end, 6 s, if FFmpeg wrote it (PyAV 18.1.0), and its length,
# 1 s, if mkvmerge 74.0.0 copied it (Debian 12: apt-get install mkvtoolnix). Nothing in the file tells which. MP4 and
# MPEG-TS announce the length. So a reader that compares the last frame with the duration must take a file for whole if
# either fits, else whole files are called cut.
set -euo pipefail
command -v mkvmerge > /dev/null
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install -q av==18.1.0 numpy==2.2.6
cd "$folder"
cat > write.py <<'PYTHON'
from fractions import Fraction

import av
import numpy as np

for name in ("late.mkv", "late.mp4"):
    with av.open(name, "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 25)
        for index in range(125, 150):
            frame = av.VideoFrame.from_ndarray(np.full((96, 160, 3), index, np.uint8), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
PYTHON
env/bin/python write.py
mkvmerge -q -o copied.mkv late.mkv
env/bin/python - <<'PYTHON'
import av

found = {}
for name in ("late.mkv", "copied.mkv", "late.mp4"):
    with av.open(name) as container:
        times = [frame.time for frame in container.decode(video=0)]
        assert (len(times), times[0], round(times[-1], 3)) == (25, 5.0, 5.96), times
        found[name] = round(container.duration / av.time_base, 2)
print(found)
assert found == {"late.mkv": 6.0, "copied.mkv": 1.0, "late.mp4": 1.0}, found
PYTHON
