"""The measured curve: interpolation, extrapolation, the favoured batch."""

import pytest

from service.engine.curve import BatchCurve
from tests.sentences import sentence

STEEP = {(1, 16): 0.010, (4, 16): 0.016, (16, 16): 0.048, (1, 64): 0.030, (4, 64): 0.120}


def test_a_measured_point_is_returned_as_it_is() -> None:
    assert BatchCurve.of(STEEP).seconds(4, 16) == 0.016


def test_rows_between_two_points_are_interpolated() -> None:
    assert BatchCurve.of(STEEP).seconds(2, 16) == pytest.approx(0.012)


def test_lengths_between_two_points_are_interpolated() -> None:
    assert BatchCurve.of(STEEP).seconds(1, 40) == pytest.approx(0.020)


def test_longer_than_measured_continues_the_last_slope() -> None:
    assert BatchCurve.of(STEEP).seconds(1, 112) == pytest.approx(0.050)


def test_shorter_than_measured_costs_what_the_shortest_does() -> None:
    assert BatchCurve.of(STEEP).seconds(1, 3) == 0.010


def test_more_rows_than_measured_cost_in_proportion() -> None:
    assert BatchCurve.of(STEEP).seconds(32, 16) == pytest.approx(0.096)


def test_the_favoured_batch_is_the_smallest_near_the_best_rate() -> None:
    curve = BatchCurve.of(STEEP)
    assert curve.best_batch_size(16) == 13  # 325 a second; the best, at 16, is 333
    assert curve.best_batch_size(64) == 1


def test_a_noisy_dip_never_makes_more_rows_cheaper_than_fewer() -> None:
    curve = BatchCurve.of({(1, 8): 0.02, (2, 8): 0.01})
    assert curve.seconds(2, 8) >= curve.seconds(1, 8)


def test_without_knowledge_batching_neither_costs_nor_saves() -> None:
    assert BatchCurve.proportional().best_batch_size(1) == 1


@pytest.mark.parametrize("bad", [{}, {(1, 1): 0.0}])
def test_nothing_measured_is_refused(bad: dict[tuple[int, int], float]) -> None:
    with pytest.raises(ValueError, check=sentence):
        BatchCurve.of(bad)


def test_what_a_dispatch_costs_does_not_make_a_run_too_long_for_the_event_loop() -> None:
    curve = BatchCurve.of({(1, 8): 0.0016, (1, 16): 0.0027}, dispatch=1.0)
    assert curve.seconds(1, 8) == pytest.approx(1.0016)
    assert curve.longest_short() == 10
