"""GET /metrics, for Prometheus."""

import asyncio

from prometheus_client import REGISTRY
from prometheus_client.exposition import choose_encoder

from service.api.call import Call
from service.api.reply import Reply


async def metrics(call: Call) -> Reply:
    """Return every metric as Prometheus text, or as OpenMetrics where that is accepted."""
    encode, content_type = choose_encoder(call.given.get(b"accept", b"").decode("latin-1"))
    # In a thread: hundreds of series take milliseconds, which no item should wait for.
    body = await asyncio.to_thread(encode, REGISTRY)
    return Reply(body, content_type=content_type.encode())
