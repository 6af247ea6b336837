"""Requests whose run never ends, at a real service: the others do not notice."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from signal import SIGTERM

import httpx
import pytest

from tests.lamps import Service, serving
from tests.lasting import TRIGGER, add_lasting, greedy, looping
from tests.words import add_words

pytestmark = pytest.mark.looptime(False)  # a real process and real sockets

LASTING = 4
GRACE = 2
PATIENCE = 30.0
"""Seconds, of a test on a busy machine, in which what should take one is given up."""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    repository = tmp_path / "repository"
    add_lasting(repository, "looping", looping())
    add_lasting(repository, "greedy", greedy(gigabytes=4))
    add_words(repository)
    options = ("--server.grace-seconds", str(GRACE), "--models.threads", "2")
    options += ("--server.memory-bytes", str(2 << 30))
    with serving(repository, *options) as service:
        yield service


def ask(service: Service, model: str, text: str, timeout_ms: int = 20_000) -> httpx.Response:
    return httpx.post(
        f"http://127.0.0.1:{service.port}/v1/classify",
        json={"text": text, "model": model},
        headers={"X-Request-Timeout-Ms": str(timeout_ms), "Cache-Control": "no-store"},
        timeout=PATIENCE,
    )


def get(service: Service, path: str) -> httpx.Response:
    return httpx.get(f"http://127.0.0.1:{service.port}{path}", timeout=PATIENCE)


def code(response: httpx.Response) -> str:
    return "ok" if response.is_success else response.json()["code"]


def test_lasting_runs_are_stopped_and_everybody_else_is_served(service: Service) -> None:
    with ThreadPoolExecutor(LASTING) as clients:
        asked = [
            clients.submit(ask, service, "looping", TRIGGER, 2000 + index)
            for index in range(LASTING)
        ]
        time.sleep(0.5)
        assert get(service, "/health/live").is_success
        assert [code(each.result()) for each in asked] == ["deadline_exceeded"] * LASTING
    for model in ("looping", "words"):
        assert code(ask(service, model, "b")) == "ok"
    assert get(service, "/health/ready").is_success
    assert (
        'inference_stopped_runs_total{model="looping",version="1"} '
        in get(service, "/metrics").text
    )


def test_a_run_whose_client_left_is_stopped(service: Service) -> None:
    for _ in range(LASTING):
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"http://127.0.0.1:{service.port}/v1/classify",
                json={"text": TRIGGER, "model": "looping"},
                timeout=0.5,
            )
    assert code(ask(service, "words", "b")) == "ok"
    assert code(ask(service, "looping", "b")) == "ok"


def test_a_stop_ends_while_runs_last(service: Service) -> None:
    with ThreadPoolExecutor(LASTING) as clients:
        asked = [clients.submit(ask, service, "looping", TRIGGER) for _ in range(LASTING)]
        time.sleep(1.0)
        began = time.monotonic()
        service.process.send_signal(SIGTERM)
        assert service.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < GRACE + 10  # and not the callers' deadline
        assert {code(each.result()) for each in asked} == {"shutting_down"}


def test_more_memory_than_there_is_is_refused_and_the_next_request_is_served(
    service: Service,
) -> None:
    for _ in range(2):
        refused = ask(service, "greedy", TRIGGER)
        assert (refused.status_code, code(refused)) == (503, "device_memory")
        assert code(ask(service, "greedy", "b")) == "ok"
        assert code(ask(service, "words", "b")) == "ok"
