"""Replicas behind the HAProxy of the compose file, restarted in turn, lose nothing."""

import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.integration.real_service import ROOT, RealService
from tests.redis_server import free_port

CONFIGURATION = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text(encoding="utf-8")
_OPTIONS = ("--models.only", "digits", "--models.threads", "1", "--cache.enabled", "false")
_DIGITS = [path.read_bytes() for path in sorted((ROOT / "loadtest/data/digits").iterdir())]
# Larger than a buffer of HAProxy, so that no request can be sent from there a second time.
_PADDED = [
    (digit + bytes(100_000)) if number % 2 else digit for number, digit in enumerate(_DIGITS)
]
_CLIENTS, _PAUSE = 6, 0.02


def haproxy_program() -> str:
    """Return the path of haproxy; without one, skip, or fail in CI."""
    if program := shutil.which("haproxy"):
        return program
    reason = "haproxy is not installed: `make system-packages` installs it"
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


def configuration(port: int, replicas: list[RealService]) -> str:
    """Return the file as it is, with addresses of this machine."""
    template = "    server-template replica 16 quartet:8000 resolvers docker init-addr none\n"
    assert template in CONFIGURATION
    servers = [
        f"    server replica{number} {replica.url.removeprefix('http://')}\n"
        for number, replica in enumerate(replicas)
    ]
    own = CONFIGURATION.replace(template, "".join(servers))
    assert "    bind :8080\n" in own
    return own.replace("bind :8080", f"bind 127.0.0.1:{port}")


@contextmanager
def balancer(folder: Path, replicas: list[RealService]) -> Iterator[str]:
    """Run HAProxy with the file of the compose file, once it sees all replicas."""
    port, file = free_port(), folder / "haproxy.cfg"
    file.write_text(configuration(port, replicas), encoding="utf-8")
    with (folder / "haproxy.log").open("wb") as log:
        process = subprocess.Popen([haproxy_program(), "-db", "-f", str(file)], stderr=log)
        try:
            time.sleep(1)  # of the checks: until the first ones have ended, HAProxy sends anyway
            assert process.poll() is None, (folder / "haproxy.log").read_text()
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def send(url: str, answers: Counter[object], stop: threading.Event) -> None:
    """Send requests on one connection until the stop."""
    number = 0
    with httpx.Client(base_url=url, timeout=60, headers={"Content-Type": "image/png"}) as client:
        while not stop.is_set():
            number += 1
            try:
                answer = client.post("/v1/classify", content=_PADDED[number % len(_PADDED)])
                answers[answer.status_code] += 1
            except httpx.HTTPError as error:
                answers[repr(error)] += 1
            time.sleep(_PAUSE)


def restarted(replica: RealService, folder: Path) -> RealService:
    """Stop a replica with SIGTERM; return it once it serves again at its address."""
    replica.end()
    assert replica.process.returncode == 0, replica.log
    folder.mkdir()
    again = RealService(folder, *_OPTIONS, port=int(replica.url.rpartition(":")[2]))
    again.wait_until_ready()
    return again


def answered(replica: RealService) -> float:
    """Return how many requests a replica has answered."""
    text = httpx.get(f"{replica.url}/metrics").text
    name = 'inference_requests_total{model="digits",outcome="ok",version="1"} '
    return float(text.partition(name)[2].partition("\n")[0] or 0)


def test_replicas_restarted_in_turn_lose_no_request(tmp_path: Path) -> None:
    haproxy_program()
    for name in "ab":
        (tmp_path / name).mkdir()
    replicas = [RealService(tmp_path / name, *_OPTIONS) for name in "ab"]
    answers, stop = Counter[object](), threading.Event()
    try:
        for replica in replicas:
            replica.wait_until_ready()
        with balancer(tmp_path, replicas) as url, ThreadPoolExecutor(_CLIENTS) as threads:
            for _ in range(_CLIENTS):
                threads.submit(send, url, answers, stop)
            try:
                for turn in range(2):
                    replicas[turn] = restarted(replicas[turn], tmp_path / f"again{turn}")
                    before = answers[200]
                    while answers[200] < before + 100 or not answered(replicas[turn]):
                        assert set(answers) <= {200}, answers
                        time.sleep(0.05)
            finally:
                stop.set()
    finally:
        for replica in replicas:
            replica.end()
    assert set(answers) == {200}, answers
