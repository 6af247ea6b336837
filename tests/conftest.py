import asyncio
import os

# As in service/runtime: before a test imports onnxruntime, or it reports its sessions.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from tests.redis_server import redis_server

__all__ = ["redis_server"]

# looptime asks for the event loop before every test. Before the first async one there is none,
# and asyncio would make one on the spot that nobody closes; told that there is none, it does not.
asyncio.set_event_loop(None)
