"""The backlog that /metrics shows of a real device, and its busy seconds.

That it is the time that the work takes, within a quarter, is tested on the virtual clock
(tests/unit/engine/test_backlog.py): here another process may take the device's core.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.real_service import ROOT, real_service

_PHOTOS = [path.read_bytes() for path in sorted((ROOT / "benchmarks/data/photos").iterdir())]
_HEADERS = {"Cache-Control": "no-store", "Content-Type": "image/jpeg"}
_BURST = 32


def series(page: str) -> Mapping[str, float]:
    """Return the gauges and counters of a page of metrics, of one model and one device."""
    families = text_string_to_metric_families(page)
    return {sample.name: sample.value for family in families for sample in family.samples}


async def burst(client: httpx.AsyncClient) -> Sequence[float]:
    """Send photos at once; return the backlogs seen until the last is answered."""
    seen: list[float] = []
    tasks = [
        asyncio.create_task(
            client.post("/v1/detect", content=_PHOTOS[n % len(_PHOTOS)], headers=_HEADERS)
        )
        for n in range(_BURST)
    ]
    while not all(task.done() for task in tasks):
        page = await client.get("/metrics")
        seen.append(series(page.text)["inference_backlog_seconds"])
        await asyncio.sleep(0.02)
    assert {task.result().status_code for task in tasks} == {200}
    return seen


@pytest.mark.looptime(False)
async def test_the_backlog_grows_with_what_waits_and_ends_with_it(tmp_path: Path) -> None:
    options = ("--models.only", "cards", "--models.threads", "1")
    with real_service(tmp_path, *options) as service:
        limits = httpx.Limits(max_connections=_BURST + 1)
        async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=limits) as client:
            before, started = series((await client.get("/metrics")).text), time.monotonic()
            assert before["inference_backlog_seconds"] == 0
            assert before["device_slots"] == 1
            backlogs = await burst(client)
            spent, after = time.monotonic() - started, series((await client.get("/metrics")).text)
    assert 0 < max(backlogs) < 10 * spent
    busy = after["device_busy_seconds_total"] - before["device_busy_seconds_total"]
    assert 0 < busy <= 1.01 * spent
    assert after["inference_backlog_seconds"] == 0
