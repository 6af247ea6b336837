"""Frames of videos: which, when, upright; and what is refused."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from service.errors import InvalidInputError, LimitExceededError, UnsupportedMediaTypeError
from service.transforms.vision.frames import DecodedFrame, Sampling, VideoReader
from tests.clips import number_of, turn, write_clip
from tests.sentences import sentence

MOST = 1_000_000
ALL = Sampling()
FAST_START = {"movflags": "faststart"}


def read(path: Path, sampling: Sampling = ALL) -> list[DecodedFrame]:
    with VideoReader(path, MOST) as video:
        return list(video.frames(sampling))


def read_to_the_error(path: Path) -> tuple[list[int], str]:
    found: list[int] = []
    with VideoReader(path, MOST) as video:
        frames = video.frames(ALL)
        while True:
            try:
                found.append(number_of(next(frames).pixels))
            except InvalidInputError as error:
                return found, str(error)


def numbers(frames: list[DecodedFrame]) -> list[int]:
    assert [frame.index for frame in frames] == [number_of(frame.pixels) for frame in frames]
    return [frame.index for frame in frames]


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.mp4", "mpeg4"), ("a.mkv", "mpeg4"), ("a.avi", "mjpeg"), ("a.ts", "mpeg4")],
)
def test_every_frame_comes_in_order_with_its_time(tmp_path: Path, name: str, codec: str) -> None:
    frames = read(write_clip(tmp_path / name, codec=codec))
    assert numbers(frames) == list(range(20))
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(20) / 10, abs=0.002)
    assert frames[0].pixels.shape == (48, 64, 3)
    assert frames[0].pixels.dtype == np.uint8


def test_the_header_is_told(tmp_path: Path) -> None:
    with VideoReader(write_clip(tmp_path / "a.mp4"), MOST) as video:
        info = video.info
    assert (info.container, info.codec, info.width, info.height) == ("mov", "mpeg4", 64, 48)
    assert (info.frames, info.rate, info.seconds) == (20, 10.0, 2.0)


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(fps=5), [0, 2, 4, 6, 8, 10, 12, 14, 16, 18]),
        (Sampling(fps=3), [0, 3, 7, 10, 13, 17]),
        (Sampling(fps=100), list(range(20))),
        (Sampling(every=7), [0, 7, 14]),
        (Sampling(start=1.0, end=1.5), [10, 11, 12, 13, 14]),
        (Sampling(start=1.3, every=3), [13, 16, 19]),
        (Sampling(start=0.55, fps=2), [6, 10, 15]),
        (Sampling(end=0.1), [0]),
        (Sampling(start=5.0), []),
    ],
)
def test_frames_are_sampled(tmp_path: Path, sampling: Sampling, expected: list[int]) -> None:
    assert numbers(read(write_clip(tmp_path / "a.mp4"), sampling)) == expected


def test_a_varying_rate_is_sampled_by_time(tmp_path: Path) -> None:
    seconds = [0.0, 0.1, 0.2, 1.0, 1.1, 2.0, 4.0]
    path = write_clip(tmp_path / "a.mkv", 7, seconds=seconds)
    assert [frame.seconds for frame in read(path)] == pytest.approx(seconds, abs=0.002)
    assert numbers(read(path, Sampling(fps=1))) == [0, 3, 5, 6]


def test_a_rate_that_is_no_whole_number_is_kept(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 30, Fraction(60_000, 1001))
    with VideoReader(path, MOST) as reader:
        assert reader.info.rate == pytest.approx(59.94, abs=0.1)
        found = [frame.index for frame in reader.wanted(Sampling(fps=29.97))]
    assert found == list(range(0, 30, 2))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_frames_before_the_start_are_counted(tmp_path: Path, name: str) -> None:
    seconds = [number / 10 + (number > 9) * 5.0 for number in range(20)]
    path = write_clip(tmp_path / name, seconds=seconds)
    for start in (0.3, 5.0, 6.55):
        frames = read(path, Sampling(start=start))
        assert numbers(frames) == [n for n, at in enumerate(seconds) if at >= start]


def test_decoding_takes_one_thread(tmp_path: Path) -> None:
    threads = Path("/proc/self/task")
    with VideoReader(write_clip(tmp_path / "a.mp4", size=(640, 480)), MOST) as video:
        before = {*threads.iterdir()}
        frames = list(video.frames(ALL))
        assert {*threads.iterdir()} <= before
    assert len(frames) == 20


@pytest.mark.parametrize(("degrees", "corner"), [(90, "right"), (180, "bottom"), (270, "left")])
def test_a_turned_phone_gives_upright_frames(tmp_path: Path, degrees: int, corner: str) -> None:
    import av  # noqa: PLC0415

    path = tmp_path / "a.mp4"
    pixels = np.zeros((48, 64, 3), np.uint8)
    pixels[:12] = 255  # the top edge is white
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    turn(path, degrees)
    with VideoReader(path, MOST) as video:
        (frame,) = video.frames(ALL)
        size = video.info.width, video.info.height
    assert frame.pixels.shape[:2] == (size[1], size[0])
    assert size == ((48, 64) if degrees % 180 else (64, 48))
    edges = {
        "right": frame.pixels[:, -6:],
        "bottom": frame.pixels[-6:],
        "left": frame.pixels[:, :6],
    }
    assert edges[corner].mean() > 200
    assert frame.pixels.mean() < 100


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_of_a_file_that_is_cut_short_the_beginning_is_read(tmp_path: Path, name: str) -> None:
    path = write_clip(tmp_path / name, 30, options=FAST_START if name == "a.mp4" else None)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    found, error = read_to_the_error(path)
    assert "cut short" in error or "damaged" in error
    assert 5 < len(found) < 30
    assert found == list(range(len(found)))


def test_damage_costs_no_other_frames(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", 20, codec="mjpeg")
    data = path.read_bytes()
    at = data.index(b"00dc", data.index(b"movi") + len(data) // 4) + 8
    path.write_bytes(data[:at] + bytes(600) + data[at + 600 :])
    found, error = read_to_the_error(path)
    assert error == "the video is damaged: 1 of its frames"
    assert len(found) >= 19
    assert found[-1] == 19


@pytest.mark.parametrize(
    "data",
    [
        b"hello",
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile '/etc/passwd'\n",
        b"\x00\x00\x00\x18ftypmp42\x00\x00\x00\x00mp42isom",
    ],
    ids=["text", "playlist", "list of files", "only a beginning"],
)
def test_what_is_no_video_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, check=sentence):
        VideoReader(path, MOST)


def test_a_sound_file_has_no_video(tmp_path: Path) -> None:
    import wave  # noqa: PLC0415

    with wave.open(str(tmp_path / "a.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(1600))
    with pytest.raises(InvalidInputError, check=sentence):
        VideoReader(tmp_path / "a.wav", MOST)


def test_large_frames_are_refused_before_they_are_decoded(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", 2, size=(640, 480))
    with pytest.raises(LimitExceededError, check=sentence):
        VideoReader(path, 640 * 480 - 1)


def test_without_pyav_the_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_clip(tmp_path / "a.mp4", 1)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(UnsupportedMediaTypeError, check=sentence):
        VideoReader(path, MOST)
