"""What a version's meter shows before anything was counted."""

from prometheus_client import REGISTRY

from service.telemetry.meters import ModelMeter


def counted(outcome: str) -> float | None:
    labels = {"model": "metered", "version": "1", "outcome": outcome}
    return REGISTRY.get_sample_value("inference_requests_total", labels)


def test_expected_outcomes_are_counted_from_zero_so_that_their_first_is_a_rise() -> None:
    meter = ModelMeter("metered", 1)
    assert [counted("ok"), counted("inference_failed"), counted("overloaded")] == [0, 0, 0]
    meter.request("overloaded", 0.1)
    assert counted("overloaded") == 1


def test_an_outcome_that_was_not_expected_is_counted_too() -> None:
    ModelMeter("metered", 1).request("invalid_input", 0.1)
    assert counted("invalid_input") == 1
