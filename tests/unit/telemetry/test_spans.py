import pytest

from service.telemetry.record import RequestRecord, Timings
from service.telemetry.tracing import Stage, attributes, is_error, stages
from tests.unit.telemetry.fakes import SECOND, ended

START = 1_000 * SECOND
MILLISECOND = SECOND // 1000


def spans(request: RequestRecord, seconds: float) -> list[Stage]:
    return list(stages(request, START, START + int(seconds * SECOND)))


def test_the_stages_follow_one_another_from_the_moment_the_body_was_read() -> None:
    found = spans(ended(), 0.010)
    names = ["receive", "cache", "preprocess", "queue", "compute", "postprocess"]
    assert [stage.name for stage in found] == names
    assert found[0].start == START
    assert [stage.start for stage in found[1:]] == [stage.end for stage in found[:-1]]
    lasted = [(stage.end - stage.start) / MILLISECOND for stage in found]
    assert lasted == pytest.approx([1, 0.5, 1, 2, 4, 0.1], abs=1e-3)


def test_a_stage_that_took_no_time_is_left_out() -> None:
    hit = ended(cache="hit", timings=Timings(cache=0.0005))
    assert [stage.name for stage in spans(hit, 0.010)] == ["receive", "cache"]


def test_no_stage_is_longer_than_the_request() -> None:
    # Of several items the slowest of each step: together they may be more than there was.
    many = ended(timings=Timings(0.001, 0.004, 0.006, 0.006, 0.001))
    end = START + 10 * MILLISECOND
    found = spans(many, 0.010)
    assert max(stage.end for stage in found) == end
    assert all(stage.start <= stage.end for stage in found)


def test_a_request_refused_after_its_body_was_read_shows_how_long_that_took() -> None:
    refused = ended(status=422, timings=None)
    assert [stage.name for stage in spans(refused, 0.010)] == ["receive"]


def test_a_request_without_a_body_has_no_stages() -> None:
    assert spans(ended(read_at=0.0, timings=None), 0.010) == []


def test_attributes_have_the_conventional_names_and_nothing_a_client_wrote() -> None:
    request = ended(headers={"user-agent": "secret", "authorization": "secret"})
    assert attributes(request, "/v1/classify") == {
        "http.request.method": "POST",
        "http.route": "/v1/classify",
        "http.response.status_code": 200,
        "url.scheme": "http",
        "network.protocol.version": "1.1",
        "http.request.body.size": 42,
        "http.response.body.size": 113,
        "quartet.request_id": "mine-1",
        "quartet.outcome": "ok",
        "quartet.items": 1,
        "quartet.model.name": "news-topics",
        "quartet.model.version": 2,
        "quartet.cache": "miss",
    }


def test_a_client_that_left_was_sent_no_status() -> None:
    said = attributes(ended(status=499, code="client_left"), "/v1/classify")
    assert "http.response.status_code" not in said
    assert said["error.type"] == "client_left"


@pytest.mark.parametrize(
    ("status", "error"), [(200, False), (404, False), (499, False), (500, True), (0, True)]
)
def test_only_what_the_service_could_not_do_is_an_error_of_its_span(
    status: int, error: bool
) -> None:
    assert is_error(ended(status=status)) is error


def test_a_request_that_no_route_took_names_none() -> None:
    assert "http.route" not in attributes(ended(status=404, model=None), "_unknown_")
