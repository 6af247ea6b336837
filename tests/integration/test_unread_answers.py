"""A client that pipelines requests without a pause and reads no answer costs next to nothing."""

import contextlib
import socket
import time
from pathlib import Path

import psutil
import pytest

from tests.lamps import make_repository, serving

pytestmark = pytest.mark.looptime(False)  # a real process and real sockets

MOST = 5 * 1024 * 1024
REQUEST = b"GET /health/live HTTP/1.1\r\nhost: x\r\n\r\n"


def ask(client: socket.socket, seconds: float) -> int:
    """Send requests as fast as they are taken; return how many bytes were."""
    sent, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(BlockingIOError):
            sent += client.send(REQUEST * 10_000)
            continue
        time.sleep(0.01)
    return sent


def test_memory_does_not_grow_with_requests_whose_answers_are_not_read(tmp_path: Path) -> None:
    make_repository(tmp_path / "repository")
    with serving(tmp_path / "repository") as service:
        memory = psutil.Process(service.process.pid).memory_info
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.sendall(REQUEST * 200)  # what the first requests of a process need
            time.sleep(0.5)
        before = memory().rss
        with socket.create_connection(("127.0.0.1", service.port)) as client:
            client.setblocking(False)
            assert ask(client, seconds=4) > 100_000
            grown = memory().rss - before
        assert grown < MOST
