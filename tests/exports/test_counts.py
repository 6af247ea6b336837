"""Counting what moves in a clip, without the clips of the benchmark."""

from pathlib import Path

import av
import numpy as np
import pytest

from benchmarks.counts import count, main


def test_one_thing_that_comes_and_goes_is_one(tmp_path: Path) -> None:
    path = tmp_path / "cars_topdown.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for number in range(80):
            pixels = np.full((240, 320, 3), 90, np.uint8)
            left = 10 * (number - 20)  # it is in the picture from frame 15 to 51
            pixels[80:160, max(left, 0) : max(left + 60, 0)] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    found = count(path)
    assert (found.counted, found.exits, found.frames) == (1, 1, 68)


def test_without_the_clips_it_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["counts", str(tmp_path)])
    assert main() == 3
    assert "cars_topdown.mp4, people_one_by_one.mp4" in capsys.readouterr().err
