import logging
import sys

import pytest

from service.settings import LogSettings, SettingsError, TraceSettings
from service.telemetry.access import AccessLog, AccessOptions, Telemetry
from service.telemetry.record import RequestRecord
from service.telemetry_setup import make_observer, open_traces
from tests.sentences import sentence
from tests.unit.telemetry.fakes import ended

ROUTE = "/v1/classify"


class Traced:
    """Gives every request the same trace, or fails."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def ended(self, request: RequestRecord, route: str, seconds: float) -> str | None:
        if self.error is not None:
            raise self.error
        return "ab" * 16

    def close(self) -> None:
        pass


def test_a_log_line_carries_the_id_of_the_trace(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    access = AccessLog(AccessOptions(1, 1, 1.0))
    Telemetry(access, Traced()).ended(ended(), ROUTE, 0.01)
    assert vars(caplog.records[0])["trace_id"] == "ab" * 16


def test_a_fault_in_telling_is_logged_and_goes_no_further(
    caplog: pytest.LogCaptureFixture,
) -> None:
    Telemetry(None, Traced(RuntimeError("why"))).ended(ended(), ROUTE, 0.01)
    assert [record.message for record in caplog.records] == ["request not recorded"]
    assert vars(caplog.records[0])["request_id"] == "mine-1"


def test_who_wants_to_hear_of_nothing_is_not_asked_at_all() -> None:
    silent = LogSettings(requests_per_second=0, failures_per_second=0)
    assert make_observer(silent, None) is None
    assert make_observer(silent, Traced()) is not None
    assert make_observer(LogSettings(), None) is not None


def test_traces_are_off_by_default() -> None:
    assert open_traces(TraceSettings()) is None


@pytest.mark.parametrize("exporter", ["http", "grpc"])
def test_traces_without_their_packages_are_refused_with_the_way_to_get_them(
    monkeypatch: pytest.MonkeyPatch, exporter: str
) -> None:
    package = "opentelemetry.exporter.otlp.proto." + exporter
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SettingsError, check=sentence) as refusal:
        open_traces(TraceSettings.model_validate({"exporter": exporter}))
    assert f"traces.exporter is {exporter}, but {package}" in str(refusal.value)
