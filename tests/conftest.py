import asyncio
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# As in service/runtime: before a test imports onnxruntime, or it reports its sessions.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from tests.redis_server import redis_server

__all__ = ["redis_server"]

INTEGRATION = Path(__file__).parent / "integration"
SERVERS = ("browser", "prometheus", "redis")

# looptime asks for the event loop before every test. Before the first async one there is none,
# and asyncio would make one on the spot that is never closed; without a current loop it does not.
asyncio.set_event_loop(None)

# No test depends on how fast the machine is. CI tries the same examples in every run.
settings.register_profile(
    "quartet",
    max_examples=50,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=bool(os.environ.get("CI")),
)
settings.load_profile("quartet")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the second lane: tests/integration, and all that start a server."""
    for item in items:
        if item.path.is_relative_to(INTEGRATION) or any(map(item.get_closest_marker, SERVERS)):
            item.add_marker("integration")
