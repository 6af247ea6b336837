"""Hostile images, and their error messages."""

import random
import struct
import threading
import warnings
import zlib
from io import BytesIO

import pytest
from PIL import Image

from service.errors import InvalidInputError, LimitExceededError, UnsupportedMediaTypeError
from service.transforms.vision.image import FORMATS, decode_image
from tests.sentences import sentence
from tests.unit.transforms.images import DAMAGED, FOREIGN, PNG, TOO_LARGE, encoded, noise


@pytest.mark.parametrize("data", FOREIGN.values(), ids=FOREIGN)
def test_what_is_no_image_of_ours_is_refused_by_kind(data: bytes) -> None:
    with pytest.raises(UnsupportedMediaTypeError, check=sentence):
        decode_image(data)


@pytest.mark.parametrize("data", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_image_is_the_callers_fault(data: bytes) -> None:
    with pytest.raises(InvalidInputError) as caught:
        decode_image(data)
    assert "0x" not in str(caught.value)  # no object of ours is printed at the caller


@pytest.mark.parametrize("data", TOO_LARGE.values(), ids=TOO_LARGE)
def test_a_decompression_bomb_is_refused_by_its_header(data: bytes) -> None:
    # None of these files holds its pixels: decoding would end in InvalidInputError.
    with pytest.raises(LimitExceededError, match="pixels"):
        decode_image(data)


def test_a_progressive_jpeg_is_read_unless_it_has_too_many_scans() -> None:
    honest = encoded(noise(), "JPEG", progressive=True)
    assert honest.count(b"\xff\xda") > 5
    assert decode_image(honest).size == (64, 48)
    start = honest.rindex(b"\xff\xda")
    endless = honest[:start] + honest[start:-2] * 100 + honest[-2:]
    with pytest.raises(InvalidInputError, match="scans"):
        decode_image(endless)


def test_the_limit_is_on_pixels_and_inclusive() -> None:
    assert decode_image(PNG, max_pixels=64 * 48).size == (64, 48)
    with pytest.raises(LimitExceededError, check=sentence):
        decode_image(PNG, max_pixels=64 * 48 - 1)


def test_an_extreme_but_honest_image_is_read() -> None:
    assert decode_image(encoded(Image.new("L", (1, 60_000)))).size == (1, 60_000)
    assert decode_image(encoded(Image.new("L", (1, 1)))).size == (1, 1)


def test_six_formats_are_read() -> None:
    for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
        assert decode_image(encoded(noise(), name)).size == (64, 48)
    assert len(FORMATS) == 6


def test_no_damage_of_any_bytes_gives_another_error() -> None:
    draw = random.Random(0)
    originals = [encoded(noise(), name) for name in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")]
    decoded = refused = 0
    for _ in range(1500):
        data = bytearray(draw.choice(originals))
        for _ in range(draw.randint(1, 20)):
            data[draw.randrange(min(len(data), draw.choice((40, 400, 10_000))))] = draw.randrange(
                256
            )
        if draw.random() < 0.3:
            del data[draw.randrange(len(data)) :]
        try:
            decode_image(bytes(data), max_pixels=1_000_000)
            decoded += 1
        except (InvalidInputError, LimitExceededError, UnsupportedMediaTypeError):
            refused += 1
    assert decoded > 100
    assert refused > 100


def test_pillows_warnings_do_not_leak_on_any_thread() -> None:
    frames = b"acTL" + struct.pack(">II", 0, 0)  # "Invalid APNG, will use default PNG image"
    frames = struct.pack(">I", 8) + frames + struct.pack(">I", zlib.crc32(frames))
    odd = PNG[:33] + frames + PNG[33:]
    problems: list[BaseException] = []

    def decode() -> None:
        try:
            for _ in range(50):
                decode_image(odd)
        except BaseException as problem:
            problems.append(problem)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="APNG"):
            Image.open(BytesIO(odd))
        threads = [threading.Thread(target=decode) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems
