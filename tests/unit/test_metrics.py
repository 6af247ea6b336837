"""What a version's meter shows before anything was counted."""

from prometheus_client import REGISTRY

from service.telemetry.meters import Load, ModelMeter, StepReport


def counted(outcome: str) -> float | None:
    labels = {"model": "metered", "version": "1", "outcome": outcome}
    return REGISTRY.get_sample_value("inference_requests_total", labels)


def test_expected_outcomes_are_counted_from_zero_so_that_their_first_is_a_rise() -> None:
    meter = ModelMeter("metered", 1)
    meter.start(Load)
    assert [counted("ok"), counted("inference_failed"), counted("overloaded")] == [0, 0, 0]
    meter.request("overloaded", 0.1)
    assert counted("overloaded") == 1


def test_an_outcome_that_was_not_expected_is_counted_too() -> None:
    meter = ModelMeter("metered", 1)
    meter.start(Load)
    meter.request("invalid_input", 0.1)
    assert counted("invalid_input") == 1


def test_nothing_is_counted_before_the_start() -> None:
    meter = ModelMeter("unmetered", 1)
    meter.request("ok", 0.1)
    meter.batch([1], [0.1], 0.1)
    meter.steps(StepReport(steps=1))
    labels = {"model": "unmetered", "version": "1"}
    for name in ("inference_request_seconds_count", "inference_batch_size_count"):
        assert REGISTRY.get_sample_value(name, labels) is None
