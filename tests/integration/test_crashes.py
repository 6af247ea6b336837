"""Workers that crash: what they had in progress is computed by others, or refused if it is why."""

import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress

import psutil
import pytest

from tests.lamps import Service, serving
from tests.lasting import TRIGGER, add_lasting, looping

pytestmark = [pytest.mark.integration, pytest.mark.looptime(False)]

LONGEST = 20.0


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    repository = tmp_path_factory.mktemp("crashes") / "repository"
    add_lasting(repository, "looping", looping())
    options = ("--server.processes=2", "--models.threads=4", "--server.grace-seconds=1")
    with serving(repository, *options) as service:
        yield service


def connection(service: Service) -> http.client.HTTPConnection:
    one = http.client.HTTPConnection("127.0.0.1", service.port, timeout=LONGEST)
    one.connect()
    return one


def begin(one: http.client.HTTPConnection, text: str) -> None:
    headers = {"X-Request-Timeout-Ms": "50000", "Content-Type": "application/json"}
    one.request("POST", "/v1/classify", json.dumps({"text": text}), headers)


def answer(one: http.client.HTTPConnection) -> tuple[int, str]:
    with one.getresponse() as response:
        return response.status, json.loads(response.read()).get("code", "ok")


def until(condition: Callable[[], bool]) -> None:
    patience = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < patience
        time.sleep(0.02)


def workers_of(service: Service, *connections: http.client.HTTPConnection) -> set[int]:
    """Return the processes that have some of the connections."""
    ports = {one.sock.getsockname()[1] for one in connections}
    found: set[int] = set()
    for worker in psutil.Process(service.process.pid).children():
        with suppress(psutil.NoSuchProcess):
            remote = [other.raddr for other in worker.net_connections("tcp")]
            found |= {worker.pid for address in remote if address and address.port in ports}
    return found


def crash_worker_of(service: Service, one: http.client.HTTPConnection) -> None:
    """Crash the worker that has a connection, and wait until another has it."""
    until(lambda: bool(workers_of(service, one)))
    (worker,) = workers_of(service, one)
    seconds = sum(psutil.Process(worker).cpu_times()[:2])
    until(lambda: sum(psutil.Process(worker).cpu_times()[:2]) > seconds + 0.1)  # it computes
    os.kill(worker, signal.SIGSEGV)
    until(lambda: not psutil.pid_exists(worker))


def test_a_request_that_crashes_two_workers_is_refused_and_the_others_live(
    service: Service,
) -> None:
    guilty = connection(service)
    idle = [connection(service) for _ in range(6)]
    for one in idle:
        begin(one, "b")
        assert answer(one) == (200, "ok")
    begin(guilty, TRIGGER)
    crash_worker_of(service, guilty)
    for one in idle:
        begin(one, "a")
        assert answer(one) == (200, "ok")
    crash_worker_of(service, guilty)
    assert answer(guilty) == (500, "inference_failed")
    for one in idle:
        begin(one, "b a")
        assert answer(one) == (200, "ok")

    def asked_again() -> set[int]:
        """Ask on new connections, which the new worker gets; return who was asked."""
        again = [connection(service) for _ in range(2)]
        for one in again:
            begin(one, TRIGGER)
            assert answer(one) == (500, "inference_failed")
        found = workers_of(service, *again)
        for one in again:
            one.close()
        return found

    until(lambda: bool(asked_again() - workers_of(service, *idle)))
    begin(idle[0], TRIGGER)
    assert answer(idle[0]) == (500, "inference_failed")
    for one in (guilty, *idle):
        one.close()


def test_a_body_that_is_being_received_goes_on_at_another_worker(service: Service) -> None:
    one = connection(service)
    body = json.dumps({"text": "b"}).encode() + b" " * 5000
    one.putrequest("POST", "/v1/classify")
    one.putheader("Content-Type", "application/json")
    one.putheader("Content-Length", str(len(body)))
    one.endheaders(body[:1000])
    until(lambda: bool(workers_of(service, one)))
    (worker,) = workers_of(service, one)
    os.kill(worker, signal.SIGKILL)
    until(lambda: bool(workers_of(service, one) - {worker}))
    one.send(body[1000:])
    assert answer(one) == (200, "ok")
    one.close()


def test_connections_that_are_closed_are_kept_by_nobody(service: Service) -> None:
    def descriptors() -> int:
        return psutil.Process(service.process.pid).num_fds()

    before = descriptors()
    opened = [connection(service) for _ in range(64)]
    for one in opened:
        begin(one, "b")
        assert answer(one) == (200, "ok")
    assert descriptors() > before + len(opened) // 2
    for one in opened:
        one.close()
    until(lambda: descriptors() <= before)
