"""Marks are counted as `bytes.count` counts them, also in long data."""

import random

import pytest

from service.transforms.counting import occurrences

_LONG = random.Random(0).randbytes(1 << 20)


@pytest.mark.parametrize("mark", [b",", b"\xff\xda", b"\0\1"])
@pytest.mark.parametrize("data", [b"", b"\xff", b"\xff\xda\xff\xda,", _LONG, _LONG + b"\xff\xda"])
def test_marks_are_counted_in_short_and_in_long_data(data: bytes, mark: bytes) -> None:
    assert occurrences(data, mark) == data.count(mark)
