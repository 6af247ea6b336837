"""Vectors that are shortened and scaled as an item asks."""

import numpy as np
import pytest

from service.errors import InvalidInputError
from service.families.vectors import embedding_of, results_of
from service.tasks import EmbedItem, Text
from service.transforms.vectors import to_bits, to_int8

ROW = np.float32([3, 4, 12])


def vector(
    normalizes: bool, kept: int | None, dimensions: int | None, normalize: bool | None
) -> list[float]:
    (result,) = results_of(ROW[None], normalizes=normalizes, kept=kept)
    item = EmbedItem(Text("a"), dimensions=dimensions, normalize=normalize)
    found = embedding_of(result, item).vector
    assert found.dtype == np.float32
    assert found.base is None
    return [round(float(number), 5) for number in found]


UNIT = [round(number / 13, 5) for number in (3, 4, 12)]


@pytest.mark.parametrize(
    ("normalizes", "kept", "dimensions", "normalize", "expected"),
    [
        (True, None, None, None, UNIT),
        (True, None, 2, None, [0.6, 0.8]),
        (True, None, 2, True, [0.6, 0.8]),
        (True, None, None, False, [3, 4, 12]),
        (True, None, 2, False, [3, 4]),
        (False, None, None, None, [3, 4, 12]),
        (False, None, 2, None, [3, 4]),
        (False, None, 2, False, [3, 4]),
        (False, None, None, True, UNIT),
        (False, None, 2, True, [0.6, 0.8]),
        # truncate_dim of sentence-transformers: cut after the vector was scaled.
        (True, 2, None, None, UNIT[:2]),
        (True, 2, None, True, [0.6, 0.8]),
        (True, 2, None, False, [3, 4]),
        (True, 2, 1, None, UNIT[:1]),
        (True, 2, 1, True, [1]),
    ],
)
def test_a_vector_is_shortened_and_then_scaled(
    normalizes: bool,
    kept: int | None,
    dimensions: int | None,
    normalize: bool | None,
    expected: list[float],
) -> None:
    assert vector(normalizes, kept, dimensions, normalize) == expected


def test_a_graphs_own_unit_vectors_stay_unit_vectors_when_they_are_shortened() -> None:
    unit = (ROW / np.linalg.norm(ROW)).astype(np.float16)
    (result,) = results_of(unit[None].astype(np.float32), normalizes=False)
    found = embedding_of(result, EmbedItem(Text("a"), dimensions=2)).vector
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-6)


def test_a_vector_of_zeros_stays_one() -> None:
    (result,) = results_of(np.zeros((1, 3), np.float32))
    assert not embedding_of(result, EmbedItem(Text("a"), dimensions=2)).vector.any()


@pytest.mark.parametrize("dimensions", [0, -1, 4])
def test_more_dimensions_than_the_model_has_are_refused(dimensions: int) -> None:
    (result,) = results_of(ROW[None])
    with pytest.raises(InvalidInputError, match="3"):
        embedding_of(result, EmbedItem(Text("a"), dimensions=dimensions))


def test_int8_gives_the_vector_back_to_half_a_step() -> None:
    dice = np.random.default_rng(1)
    for row in dice.normal(size=(20, 64)).astype(np.float32):
        numbers, scale = to_int8(row)
        assert numbers.dtype == np.int8
        assert np.abs(numbers).max() == 127
        assert np.abs(numbers * scale - row).max() <= scale / 2 * 1.0001
    assert to_int8(np.zeros(2, np.float32))[0].tolist() == [0, 0]


def test_bits_are_the_signs_of_numbers() -> None:
    row = np.float32([1, -1, 0, 2, -3, 4, 5, 6, 7])
    assert to_bits(row).tolist() == [0b10010111, 0b10000000]
