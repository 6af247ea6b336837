"""SIGTERM while long texts are translated: after the grace, every stream says why it ends."""

import http.client
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.integration.real_service import RealService, real_service

pytestmark = [pytest.mark.looptime(False)]

LINES = 4_000
"""More than two processors translate within the grace, a second."""


@contextmanager
def begun(
    service: RealService, accept: str, stream: str | None
) -> Iterator[http.client.HTTPConnection]:
    text = "\n".join(f"我们昨天看见了{number}只猫。" for number in range(LINES))
    body = {"text": text} if stream is None else {"text": text, "stream": stream}
    connection = http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)
    headers = {"Content-Type": "application/json", "Accept": accept}
    headers["X-Request-Timeout-Ms"] = "100000"
    try:
        connection.request("POST", "/v1/translate", json.dumps(body), headers)
        yield connection
    finally:
        connection.close()


def test_a_stream_that_is_cut_off_at_a_stop_ends_with_the_reason(tmp_path: Path) -> None:
    options = ("--models.only", "zh-en", "--models.warm-up-seconds", "0.5")
    with (
        real_service(tmp_path, *options, "--server.grace-seconds", "1") as service,
        begun(service, "application/x-ndjson", "segments") as of_lines,
        begun(service, "text/event-stream", "tokens") as of_events,
        begun(service, "application/json", None) as whole,
    ):
        lines, events = of_lines.getresponse(), of_events.getresponse()
        first = lines.readline()  # so both streams have begun
        assert events.readline() == b"event: start\n"
        service.process.send_signal(signal.SIGTERM)

        told = [json.loads(line) for line in (first + lines.read()).splitlines()]
        assert [one["event"] for one in told[-2:]] == ["error", "end"]
        assert told[-2]["code"] == "shutting_down"
        assert 0 < told[-1]["done"] < told[-1]["total"] == LINES

        *_, error, end = events.read().strip().split(b"\n\n")
        assert error.startswith(b"event: error\ndata: ")
        assert json.loads(error.partition(b"data: ")[2])["code"] == "shutting_down"
        assert end.startswith(b"event: end\ndata: ")

        answer = whole.getresponse()
        assert (answer.status, json.loads(answer.read())["code"]) == (503, "shutting_down")
        assert service.process.wait(timeout=120) == 0
        logged = [json.loads(line) for line in service.log.splitlines()]
        ended = [one for one in logged if one["event"] == "request"]
        assert {one["outcome"] for one in ended if one["route"] == "/v1/translate"} == {
            "shutting_down"
        }
        assert not any("traceback" in one or "exception" in one for one in logged)
