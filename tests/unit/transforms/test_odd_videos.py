"""Videos as cameras, editors and attackers make them."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from service.errors import InvalidInputError
from service.transforms.vision.frames import DecodedFrame, Sampling, VideoReader
from tests.clips import STEP, number_of, write_clip
from tests.sentences import sentence

MOST = 1_000_000
ALL = Sampling()


def read(path: Path, sampling: Sampling = ALL) -> list[DecodedFrame]:
    with VideoReader(path, MOST) as video:
        return list(video.frames(sampling))


def numbers(frames: list[DecodedFrame]) -> list[int]:
    return [number_of(frame.pixels) for frame in frames]


def grey(number: int, size: tuple[int, int] = (64, 48)) -> av.VideoFrame:
    pixels = np.full((size[1], size[0], 3), STEP * number, np.uint8)
    return av.VideoFrame.from_ndarray(pixels, format="rgb24")


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts"])
def test_sound_that_goes_on_is_no_damage(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with av.open(str(path), "w") as container:
        sound = container.add_stream("mp2", rate=48000)
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for at in range(0, 5 * 48000, 1152):  # all of it before the video
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 2 * 1152), np.int16), layout="stereo")
            samples.sample_rate, samples.pts, samples.time_base = 48000, at, Fraction(1, 48000)
            container.mux(sound.encode(samples))
        container.mux(sound.encode(None))
        for number in range(10):
            container.mux(video.encode(grey(number)))
        container.mux(video.encode(None))
    assert numbers(read(path)) == list(range(10))


def test_a_start_between_key_frames_loses_nothing(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.ts", 30, codec="mpeg4")
    for start in (0.1, 0.5, 0.7, 1.0, 2.9):
        frames = read(path, Sampling(start=start))
        assert numbers(frames) == list(range(round(10 * start), 30)), start
        assert frames[0].seconds == pytest.approx(start, abs=0.01)


@pytest.mark.parametrize("offset", ["0", "95443"])  # after 95,443.7 s, time stamps begin again
def test_a_start_after_the_only_key_frame_is_read_from_the_beginning(
    tmp_path: Path, offset: str
) -> None:
    options = {"output_ts_offset": offset}
    path = write_clip(tmp_path / "a.ts", 20, codec="libx264", key_frames=250, options=options)
    assert read(path, Sampling(start=5)) == []
    for start in (0.2, 0.9, 1.5):
        frames = read(path, Sampling(start=start))
        assert numbers(frames) == list(range(round(10 * start), 20)), start
        assert frames[0].index == round(10 * start)


def test_a_file_without_times_is_read_up_to_the_start(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mjpeg", 20, rate=25, codec="mjpeg")
    frames = read(path, Sampling(start=0.4))
    assert numbers(frames) == list(range(10, 20))


def test_time_goes_on_where_recordings_were_joined(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.ts", 20)
    path.write_bytes(path.read_bytes() * 2)
    frames = read(path)
    assert numbers(frames) == [*range(20), *range(20)]
    assert [frame.seconds for frame in frames] == pytest.approx(np.arange(40) / 10, abs=0.01)
    assert len(read(path, Sampling(fps=1))) == 4


def test_frames_that_were_reordered_have_their_own_times(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.max_b_frames = 2
        for number in range(20):
            container.mux(stream.encode(grey(number)))
        container.mux(stream.encode(None))
    frames = read(path)
    seconds = [frame.seconds for frame in frames]
    assert seconds == sorted(seconds)
    assert max(abs(at - n / 10) for n, at in enumerate(seconds)) < 0.25
    for start in (0.2, 0.9, 1.5):
        expected = [(each.index, each.seconds) for each in frames if each.seconds >= start]
        found = read(path, Sampling(start=start))
        assert [(each.index, each.seconds) for each in found] == expected


@pytest.mark.parametrize("name", ["a.mkv", "a.flv", "a.mp4", "a.ts"])
def test_time_stamps_that_begin_late_are_no_missing_frames(tmp_path: Path, name: str) -> None:
    codec = "flv" if name == "a.flv" else "mpeg4"
    path = write_clip(tmp_path / name, 10, codec=codec, options={"output_ts_offset": "1000000"})
    frames = read(path)
    assert numbers(frames) == list(range(10))
    assert frames[0].seconds == 0.0


def test_an_avi_file_that_is_cut_short_is_no_whole_one(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.avi", 20, codec="mjpeg")
    head, frame, rest = path.read_bytes().partition(b"movi")
    chunks = rest.split(b"00dc")  # of a frame each, after the first
    path.write_bytes(head + frame + b"00dc".join(chunks[:11]))
    with VideoReader(path, MOST) as video:
        frames = video.frames(ALL)
        assert [number_of(next(frames).pixels) for _ in range(10)] == list(range(10))
        with pytest.raises(InvalidInputError, check=sentence):
            next(frames)


def test_a_format_that_is_not_read_is_named_so(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.y4m", 5, codec="rawvideo")
    assert numbers(read(path)) == list(range(5))
    path = write_clip(tmp_path / "a.rm", 5, codec="rv10", size=(176, 144))
    with pytest.raises(InvalidInputError, check=sentence):
        VideoReader(path, MOST)


def test_frames_that_an_editor_cut_off_are_not_missed(tmp_path: Path) -> None:
    whole, path = write_clip(tmp_path / "whole.mp4", 20), tmp_path / "a.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.pts is not None and packet.dts is not None and packet.time_base is not None:
                early = int(0.55 / packet.time_base)
                packet.pts, packet.dts, packet.stream = (
                    packet.pts - early,
                    packet.dts - early,
                    stream,
                )
                container.mux(packet)
    frames = read(path)
    assert numbers(frames) == list(range(6, 20))
    assert frames[0].seconds == 0.0


def test_a_cover_picture_is_no_video(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        cover = container.add_stream("mjpeg", rate=1)
        cover.width, cover.height, cover.pix_fmt = 32, 32, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        container.mux(cover.encode(grey(3, (32, 32))))
        container.mux(cover.encode(None))
        for number in range(5):
            container.mux(video.encode(grey(number)))
        container.mux(video.encode(None))
    path.write_bytes(covers_first(path.read_bytes()))
    with av.open(str(path)) as container:
        covers = [bool(s.disposition & s.disposition.attached_pic) for s in container.streams.video]
    assert covers == [True, False]
    assert numbers(read(path)) == list(range(5))


def covers_first(data: bytes) -> bytes:
    """Move the metadata of an MP4 file, which hold the cover, in front of its tracks."""
    begin = data.index(b"moov") + 4
    end = begin - 8 + int.from_bytes(data[begin - 8 : begin - 4], "big")
    atoms, at = [], begin
    while at < end:
        size = int.from_bytes(data[at : at + 4], "big")
        atoms.append(data[at : at + size])
        at += size
    atoms.sort(key=lambda atom: atom[4:8] == b"trak")
    return data[:begin] + b"".join(atoms) + data[end:]


@pytest.mark.parametrize(("width", "height"), [(1, 1), (3, 5), (999, 1)])
def test_the_smallest_frames_are_read(tmp_path: Path, width: int, height: int) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "bgr0"
        for number in range(3):
            container.mux(stream.encode(grey(number, (width, height))))
        container.mux(stream.encode(None))
    frames = read(path)
    assert numbers(frames) == [0, 1, 2]
    assert frames[0].pixels.shape == (height, width, 3)


def test_a_small_file_with_a_huge_index_takes_no_memory(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4")
    data, count = bytearray(path.read_bytes()), 80_000_000  # 24 bytes of memory each
    sizes, chunks, times = (data.index(name) for name in (b"stsz", b"stsc", b"stts"))
    data[sizes + 8 : sizes + 16] = struct.pack(">II", 1, count)
    data[chunks + 8 : chunks + 24] = struct.pack(">IIII", 1, 1, count, 1)
    data[times + 12 : times + 16] = struct.pack(">I", count)
    path.write_bytes(data)
    with pytest.raises(InvalidInputError, check=sentence):
        VideoReader(path, MOST)


def test_who_stops_it_gets_no_more_frames(tmp_path: Path) -> None:
    with VideoReader(write_clip(tmp_path / "a.mp4"), MOST) as video:
        frames = video.frames(ALL)
        next(frames)
        video.stop()
        assert list(frames) == []


def test_a_stream_that_begins_later_does_no_harm(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.flv", 1000, codec="flv")
    sound = b"\x2f" + bytes(100)
    tag = b"\x08" + len(sound).to_bytes(3, "big") + bytes(7) + sound
    late = (tag + len(tag).to_bytes(4, "big")) * 5
    path.write_bytes(path.read_bytes() + late)
    assert len(read(path)) == 1000
