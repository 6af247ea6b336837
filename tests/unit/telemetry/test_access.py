import logging
from typing import Any

import pytest

from service.api.routes import operation_routes
from service.telemetry.access import AccessLog, AccessOptions, Allowance
from service.telemetry.record import PROBES, RequestRecord
from tests.unit.telemetry.fakes import ended

ROUTE = "/v1/classify"


def fields(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the fields of every line so far."""
    return [vars(record) for record in caplog.records]


@pytest.fixture(autouse=True)
def all_events(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> AccessLog:
    return AccessLog(AccessOptions(2, 3, slow_seconds=0.5), clock)


def end(log: AccessLog, request: RequestRecord, route: str = ROUTE, seconds: float = 0.01) -> None:
    log.ended(request, route, seconds, None)


def test_an_answered_request_is_a_line_with_everything_known_of_it(
    log: AccessLog, caplog: pytest.LogCaptureFixture
) -> None:
    log.ended(ended(), ROUTE, 0.0123456789, "ab" * 16)
    known = {
        "msg": "request",
        "levelname": "INFO",
        "request_id": "mine-1",
        "method": "POST",
        "route": "/v1/classify",
        "status": 200,
        "outcome": "ok",
        "model": "news-topics",
        "version": 2,
        "cache": "miss",
        "items": 1,
        "received": 42,
        "sent": 113,
        "seconds": 0.012346,
        "cache_seconds": 0.0005,
        "preprocess_seconds": 0.001,
        "queue_seconds": 0.002,
        "compute_seconds": 0.004,
        "postprocess_seconds": 0.0001,
        "trace_id": "ab" * 16,
    }
    assert known.items() <= fields(caplog)[0].items()
    assert "unlogged" not in fields(caplog)[0]


def test_a_request_that_asked_no_model_says_nothing_of_one(
    log: AccessLog, caplog: pytest.LogCaptureFixture
) -> None:
    request = ended(status=404, code="not_found", model=None, cache=None, timings=None)
    request.item_count = 0
    end(log, request)
    absent = {"model", "version", "cache", "items", "compute_seconds", "trace_id"}
    assert not absent & fields(caplog)[0].keys()


def test_nothing_of_the_path_the_query_or_a_header_is_logged(
    log: AccessLog, caplog: pytest.LogCaptureFixture
) -> None:
    end(log, ended(headers={"authorization": "Bearer secret", "cookie": "secret"}))
    assert "secret" not in str(fields(caplog)[0])


def test_of_many_good_requests_so_many_a_second_are_logged_and_the_rest_is_counted(
    log: AccessLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        end(log, ended())
    assert len(caplog.records) == 2
    clock.now += 1
    end(log, ended())
    assert fields(caplog)[2]["unlogged"] == 8
    end(log, ended())
    assert "unlogged" not in fields(caplog)[3]


def test_good_requests_take_no_room_from_failures_and_slow_ones(
    log: AccessLog, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        end(log, ended())
    end(log, ended(status=422, code="invalid_input"))
    end(log, ended(status=0, code="internal_error"))
    end(log, ended(), seconds=0.5)
    assert [line["status"] for line in fields(caplog)] == [200, 200, 422, 0, 200]


def test_a_stream_that_failed_takes_the_room_of_failures(
    log: AccessLog, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(10):
        end(log, ended())
    end(log, ended(status=200, code="shutting_down"))
    assert [line["outcome"] for line in fields(caplog)] == ["ok", "ok", "shutting_down"]


def test_failures_are_bounded_too(
    log: AccessLog, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(1000):
        end(log, ended(status=429, code="overloaded"))
    assert len(caplog.records) == 3
    clock.now += 1
    end(log, ended(status=429, code="overloaded"))
    assert fields(caplog)[3]["unlogged"] == 997


def test_a_line_says_which_limit_an_overloaded_service_was_at(
    log: AccessLog, caplog: pytest.LogCaptureFixture
) -> None:
    end(log, ended(status=429, code="overloaded", detail="too many large bodies at once"))
    end(log, ended(status=429, code="overloaded"))
    assert [line.get("detail") for line in fields(caplog)] == [
        "too many large bodies at once",
        None,
    ]


@pytest.mark.parametrize(
    ("status", "level"),
    [
        *((status, "INFO") for status in (200, 304, 404, 499)),
        *((status, "WARNING") for status in (0, 429, 500, 503)),
    ],
)
def test_what_the_service_could_not_do_is_a_warning(
    log: AccessLog, caplog: pytest.LogCaptureFixture, status: int, level: str
) -> None:
    end(log, ended(status=status))
    assert fields(caplog)[0]["levelname"] == level


@pytest.mark.parametrize("route", sorted(PROBES))
def test_a_probe_is_logged_only_when_it_fails_or_is_slow(
    log: AccessLog, caplog: pytest.LogCaptureFixture, route: str
) -> None:
    end(log, ended(), route)
    assert len(caplog.records) == 0
    end(log, ended(status=503), route)
    end(log, ended(), route, seconds=2.0)
    assert [record.levelname for record in caplog.records] == ["INFO", "INFO"]


def test_the_probes_are_routes_of_the_service() -> None:
    assert {route.path for route in operation_routes()} >= PROBES


def test_a_level_above_info_leaves_out_good_requests(
    log: AccessLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    end(log, ended())
    end(log, ended(status=500))
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_an_allowance_of_nothing_grants_nothing() -> None:
    allowance = Allowance(0)
    assert [allowance.take(float(now)) for now in range(5)] == [None] * 5


def test_an_allowance_begins_anew_a_second_after_its_first_grant() -> None:
    allowance = Allowance(1)
    taken = [allowance.take(now) for now in (5.0, 5.9, 6.0, 6.5, 6.999, 7.0)]
    assert taken == [0, None, 1, None, None, 2]
