"""Copies within caches that the host can reach."""

import numpy as np

from service.families.translation import kv_cache


def numbered(rows: int, places: int) -> np.ndarray:
    return np.arange(rows * 2 * places * 3, dtype=np.float32).reshape(rows, 2, places, 3)


def test_places_that_change_places_are_all_read_before_any_is_written() -> None:
    cache = numbered(3, 4)
    before = cache.copy()
    start, end = np.array([[0, 1], [2, 3]]), np.array([[2, 3], [0, 1]])
    kv_cache.move([(cache, cache)], start, end)
    np.testing.assert_array_equal(cache[2, :, 3], before[0, :, 1])
    np.testing.assert_array_equal(cache[0, :, 1], before[2, :, 3])
    assert (cache != before).sum() == 12


def test_places_keep_their_row_and_place_in_caches_of_another_size() -> None:
    old, new = numbered(2, 3), np.zeros((4, 2, 6, 3), np.float32)
    every = np.argwhere(np.ones((2, 3)))
    kv_cache.move([(old, new)], every, every)
    np.testing.assert_array_equal(new[:2, :, :3], old)
    assert not new[2:].any()


def test_newcomers_fill_the_first_places_of_their_rows() -> None:
    cache, new = np.zeros((4, 2, 6, 3), np.float32), numbered(2, 3) + 1
    kv_cache.join(cache, new, np.array([3, 1]))
    np.testing.assert_array_equal(cache[3, :, :3], new[0])
    np.testing.assert_array_equal(cache[1, :, :3], new[1])
    assert not cache[[0, 2]].any()
