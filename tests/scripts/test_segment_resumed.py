# SPDX-License-Identifier: Apache-2.0
"""segment.py on images, stopped and resumed."""

from __future__ import annotations

import pytest

from ..support.exported import description, write_bright
from ..support.segmenting import blobs, draw_cases, read_table, segment

pytest.importorskip("openvino")

from runtime import segmenting


def segment_until_stopped(monkeypatch, *arguments: object) -> None:
    """Ended by Ctrl-C before the mask of case_3 is saved."""
    save = segmenting.save_mask

    def stop_at_three(mask, path, description):
        if path.stem == "case_3":
            raise KeyboardInterrupt
        save(mask, path, description)

    with monkeypatch.context() as patched:
        patched.setattr(segmenting, "save_mask", stop_at_three)
        with pytest.raises(SystemExit, match="go on with --skip_finished"):
            segment(*arguments)


def test_stopped_and_resumed(tmp_path, monkeypatch, capsys):
    folder, out = draw_cases(tmp_path / "images", 6), tmp_path / "out"
    model = write_bright(tmp_path / "model.xml", description())
    segment_until_stopped(monkeypatch, model, folder, "--output_dir", out)
    assert not (out / "images.csv").exists()
    (out / "case_1.png").unlink()
    times = {path: path.stat().st_mtime_ns for path in out.glob("*.png")}
    assert len(times) == 2
    with (out / "images_incomplete.csv").open("a") as opened:
        opened.write("case_3.png,1,0.2")  # a row that was cut off
    segment(model, folder, "--output_dir", out, "--skip_finished")
    assert "4 masks written" in capsys.readouterr().out
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
    assert [row["file"] for row in read_table(out / "images.csv")] == [f"case_{index}.png" for index in range(6)]
    assert not [*out.rglob("*partial*"), *out.rglob("*incomplete*")]
    segment(model, folder, "--output_dir", out, "--skip_finished")
    assert "0 masks written" in capsys.readouterr().out
    assert len(read_table(out / "images.csv")) == 6


def test_resumed_rows_are_of_one_run(tmp_path, monkeypatch):
    """A second network into the folder of a finished first one, stopped and resumed: nothing of the first remains."""
    folder, out = draw_cases(tmp_path / "images", 5), tmp_path / "out"
    models = [write_bright(tmp_path / f"{slope}.xml", description(), slope) for slope in (0.05, -0.05)]
    segment(models[1], folder, "--output_dir", tmp_path / "expected")
    segment(models[0], folder, "--output_dir", out)
    segment_until_stopped(monkeypatch, models[1], folder, "--output_dir", out)
    assert not (out / "images.csv").exists()
    segment(models[1], folder, "--output_dir", out, "--skip_finished")
    expected, found = (
        [{**row, "ms": ""} for row in read_table(place / "images.csv")] for place in (tmp_path / "expected", out)
    )
    assert found == expected
    for path in (tmp_path / "expected").glob("*.png"):
        assert (out / path.name).read_bytes() == path.read_bytes()


def test_names_with_line_breaks_are_resumed(tmp_path, capsys):
    names = ["one\nline.png", "two\u2028lines.png", "three, commas.png"]
    (tmp_path / "images").mkdir()
    for index, name in enumerate(names):
        blobs(40, 30, index).save(tmp_path / "images" / name)
    model = write_bright(tmp_path / "model.xml", description())
    for options in ([], ["--skip_finished"]):
        segment(model, tmp_path / "images", "--output_dir", tmp_path / "out", *options)
        assert [row["file"] for row in read_table(tmp_path / "out" / "images.csv")] == sorted(names)
    assert "0 masks written" in capsys.readouterr().out
