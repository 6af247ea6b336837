"""The real Redis of a test; without the program the test is skipped, in CI it fails."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from drills import redis_server as real
from drills.redis_server import RedisServer
from loadtest.service_process import free_port

__all__ = ["RedisServer", "free_port", "redis_program", "redis_server"]


def redis_program() -> str:
    """Return the path of redis-server; without one, skip, or fail in CI."""
    if program := real.redis_program():
        return program
    if os.environ.get("CI"):
        pytest.fail("redis-server is not installed, and CI must not skip its tests")
    pytest.skip("redis-server is not installed")


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """Yield an empty Redis of this test's own."""
    server = RedisServer(redis_program(), tmp_path)
    yield server
    server.kill()
