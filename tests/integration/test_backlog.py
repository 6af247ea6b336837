"""The backlog that /metrics shows is the time that the work then takes, within a quarter."""

import asyncio
import statistics
import time
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.real_service import ROOT, real_service

_PHOTOS = [path.read_bytes() for path in sorted((ROOT / "benchmarks/data/photos").iterdir())]
_HEADERS = {"Cache-Control": "no-store", "Content-Type": "image/jpeg"}
_BURST, _BURSTS = 32, 3


def series(page: str) -> Mapping[str, float]:
    """Return the gauges and counters of a page of metrics, of one model and one device."""
    families = text_string_to_metric_families(page)
    return {sample.name: sample.value for family in families for sample in family.samples}


async def burst(client: httpx.AsyncClient) -> float:
    """Send photos at once; return the median of backlog by time that was left, in the first half.

    The rest of a burst is too short: what runs is not part of the backlog.
    """
    seen: list[tuple[float, float]] = []
    tasks = [
        asyncio.create_task(
            client.post("/v1/detect", content=_PHOTOS[n % len(_PHOTOS)], headers=_HEADERS)
        )
        for n in range(_BURST)
    ]
    while not all(task.done() for task in tasks):
        page = await client.get("/metrics")
        seen.append((time.monotonic(), series(page.text)["inference_backlog_seconds"]))
        await asyncio.sleep(0.02)
    ended = time.monotonic()
    assert {task.result().status_code for task in tasks} == {200}
    began = next(at for at, backlog in seen if backlog)
    half = (began + ended) / 2
    return statistics.median(b / (ended - at) for at, b in seen if began <= at <= half)


@pytest.mark.looptime(False)
async def test_the_backlog_is_what_the_work_takes(tmp_path: Path) -> None:
    options = ("--models.only", "cards", "--models.threads", "1")
    with real_service(tmp_path, *options) as service:
        limits = httpx.Limits(max_connections=_BURST + 1)
        async with httpx.AsyncClient(base_url=service.url, timeout=120, limits=limits) as client:
            before, started = series((await client.get("/metrics")).text), time.monotonic()
            assert before["inference_backlog_seconds"] == 0
            assert before["device_slots"] == 1
            ratios = [await burst(client) for _ in range(_BURSTS)]
            spent, after = time.monotonic() - started, series((await client.get("/metrics")).text)
    assert statistics.median(ratios) == pytest.approx(1, abs=0.25), ratios
    busy = after["device_busy_seconds_total"] - before["device_busy_seconds_total"]
    assert 0.5 * spent < busy <= 1.01 * spent
    assert after["inference_backlog_seconds"] == 0
