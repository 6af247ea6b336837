import pytest

from benchmarks.samples import Latencies, Load, counter_delta, percentile, ratio

METRICS = """\
# HELP inference_batch_size Items in a batch
inference_batch_size_sum{model="a",version="1"} 10.0
inference_batch_size_sum{model="a",version="2"} 5.0
inference_batch_size_sum{model="b",version="1"} 100.0
inference_batch_size_count{model="a",version="1"} 4.0
up 1.0
"""


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.01, 1), (0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100)]
)
def test_a_percentile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_the_median_of_an_odd_number_is_the_middle_one() -> None:
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0


@pytest.mark.parametrize(("values", "share"), [([], 0.5), ([1.0], 1.5), ([1.0], -0.1)])
def test_no_values_or_no_share_have_no_percentile(values: list[float], share: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        percentile(values, share)


def test_latencies_of_nothing_are_zero() -> None:
    assert Latencies.of([]) == Latencies(0, 0.0, 0.0, 0.0, 0.0)


def test_latencies_are_summed_up_whatever_their_order() -> None:
    found = Latencies.of([value / 1000 for value in (5, 1, 4, 2, 3)])
    assert found == Latencies(5, 0.003, 0.005, 0.005, 0.005)


def test_a_rate_counts_what_was_answered_and_not_what_was_refused() -> None:
    load = Load(2.0, Latencies.of([0.1] * 30), {429: Latencies.of([0.001] * 500)}, 0, 0.0)
    assert load.rate == 15.0


def test_a_ratio_is_in_units_of_the_mean_before_and_after() -> None:
    assert ratio(105.0, 90.0, 110.0) == 1.05


def test_a_counter_adds_up_all_series_with_the_labels() -> None:
    after = METRICS.replace("10.0", "17.0").replace("5.0", "6.0").replace("100.0", "900.0")
    name = "inference_batch_size_sum"
    assert counter_delta(METRICS, after, name, {"model": "a"}) == 8.0
    assert counter_delta(METRICS, after, name, {"model": "a", "version": "1"}) == 7.0
    assert counter_delta(METRICS, after, name, {"model": "c"}) == 0.0


def test_a_series_that_appears_later_counts_from_zero() -> None:
    assert counter_delta("", METRICS, "inference_batch_size_count", {}) == 4.0
