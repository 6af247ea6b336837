"""Sixteen live streams whose sources hang up, refuse, fall silent and send garbage by turns."""

import asyncio
import io
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import psutil
from PIL import Image, ImageDraw

from drills.http1 import ask, post, request
from drills.plan import Plan
from drills.report import Report
from drills.service import TOKEN, Service, serving

_STREAMS = 16
_RATE = 5.0
_ADMIN = {"Authorization": f"Bearer {TOKEN}"}
_MODES = ("is sound", "is sound", "refuses", "hangs up", "is silent", "sends garbage")
_CHANGED = 4
"""Sources that change every half second."""
_PATIENCE = 90.0
"""Seconds to recover: up to 36 to the next connection, and 10 more if the source is silent then."""
_LEAST_FRAMES = 3
_SPARE_DESCRIPTORS, _SPARE_THREADS = 4, 2
_GROWTH_MB = 60.0

RECOVERED = "every stream analyses frames again when its source is sound"
MEANWHILE = "requests are answered meanwhile"
COUNTED = "every frame seen was analysed, failed or dropped"


@dataclass(slots=True)
class _Source:
    """A camera that sends MJPEG over HTTP, and what is wrong with it now."""

    mode: str = "is sound"
    frames: list[bytes] = field(default_factory=list)

    async def serve(self, writer: asyncio.StreamWriter, draw: random.Random) -> None:
        """Send frames until the mode or the client ends it."""
        if self.mode == "refuses":
            writer.write(b"HTTP/1.0 503 Off\r\n\r\n")
            return
        kind = b"multipart/x-mixed-replace; boundary=frame"
        writer.write(b"HTTP/1.0 200 OK\r\nContent-Type: " + kind + b"\r\n\r\n")
        number = 0
        while self.mode not in ("refuses", "hangs up"):
            frame = self.frames[number % len(self.frames)]
            if self.mode == "sends garbage":
                writer.write(draw.randbytes(len(frame)))
            elif self.mode == "is sound":
                head = (
                    f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
                )
                writer.write(head.encode() + frame + b"\r\n")
            await writer.drain()
            await asyncio.sleep(1 / _RATE)
            number += 1


async def run(plan: Plan, report: Report) -> None:
    """Change the sources at random until the time is over, mend them all, and look at the rest."""
    draw = plan.draw("streams")
    sources = [_Source(frames=_frames(draw)) for _ in range(_STREAMS)]
    async with _cameras(sources, draw) as urls:
        settings = {
            "QUARTET_STREAMS__SOURCES": ",".join(urls),
            "QUARTET_LIMITS__MAX_STREAMS": str(_STREAMS),
        }
        only = ("cards", "news-topics")
        async with serving(plan.folder / "streams.log", settings, only) as service:
            await _round(service, urls)  # what is imported and allocated once
            before = _held(service)
            ids = await _start(service, urls)
            await _mistreat(service, plan, sources, draw, report)
            for source in sources:
                source.mode = "is sound"
            await _recover(service, ids, report)
            await _end(service, ids, report)
            after = _held(service)
            left = await service.settles("streams")
    for promise in (RECOVERED, MEANWHILE, COUNTED):
        report.judge(promise)
    more = [now - then for now, then in zip(after, before, strict=True)]
    report.judge("streams returns to 0", found=f"{left:g}", kept=left == 0)
    limits = (_SPARE_DESCRIPTORS, _SPARE_THREADS, _GROWTH_MB)
    for what, grown, most in zip(("descriptors", "threads", "MB"), more, limits, strict=True):
        promise = f"deleted streams leave at most {most:g} {what}"
        report.judge(promise, found=f"{grown:+.0f}", kept=grown <= most)


async def _mistreat(
    service: Service, plan: Plan, sources: list[_Source], draw: random.Random, report: Report
) -> None:
    clock, deadline = asyncio.get_running_loop().time, plan.deadline()
    while clock() < deadline:
        for source in draw.sample(sources, _CHANGED):
            source.mode = draw.choice(_MODES)
            report.counts[f"x a source {source.mode}"] += 1
        if wrong := await service.answers():
            report.broken(MEANWHILE, wrong)
        await asyncio.sleep(0.5)
        report.progress()


async def _recover(service: Service, ids: list[str], report: Report) -> None:
    """Wait until each stream has analysed some more frames."""
    start = {one["id"]: one["frames"]["analysed"] for one in await _shown(service)}
    late: dict[str, Any] = dict.fromkeys(ids)
    patience = asyncio.get_running_loop().time() + _PATIENCE
    while late and asyncio.get_running_loop().time() < patience:
        await asyncio.sleep(0.5)
        late = {
            one["id"]: one
            for one in await _shown(service)
            if one["frames"]["analysed"] < start[one["id"]] + _LEAST_FRAMES
        }
    for one in late.values():
        report.broken(RECOVERED, str(one))


async def _end(service: Service, ids: list[str], report: Report) -> None:
    """Delete the streams, and check what became of their frames."""
    shown = await _shown(service)
    totals = dict.fromkeys(("seen", "analysed", "failed", "dropped"), 0)
    for one in shown:
        frames = one["frames"]
        missing = frames["seen"] - frames["analysed"] - frames["failed"] - frames["dropped"]
        if missing not in (0, 1):  # one may be in the model
            report.broken(COUNTED, str(one))
        totals = {name: totals[name] + frames[name] for name in totals}
    for name, number in totals.items():
        report.figure(f"frames {name}", number)
    report.figure("connections", sum(one["connections"] for one in shown))
    await _delete(service, ids)


async def _round(service: Service, urls: list[str]) -> None:
    """Run all streams once until each has analysed a frame."""
    ids = await _start(service, urls)
    while not all(one["frames"]["analysed"] for one in await _shown(service)):  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    await _delete(service, ids)


async def _start(service: Service, urls: list[str]) -> list[str]:
    bodies = ({"url": url, "fps": 2, "track": True} for url in urls)
    answers = [await ask(service.port, post("/v1/streams", body, _ADMIN)) for body in bodies]
    return [answer.json()["id"] for answer in answers]


async def _shown(service: Service) -> list[dict[str, Any]]:
    asked = request("GET", "/v1/streams", b"", _ADMIN)
    answer = await ask(service.port, asked, method="GET")
    found: list[dict[str, Any]] = answer.json()["streams"]
    return found


async def _delete(service: Service, ids: list[str]) -> None:
    for one in ids:
        asked = request("DELETE", f"/v1/streams/{one}", b"", _ADMIN)
        await ask(service.port, asked, method="DELETE")
    await asyncio.sleep(2)  # threads end with the frame that they decode


def _held(service: Service) -> tuple[float, float, float]:
    threads = psutil.Process(service.running.process.pid).num_threads()
    return service.descriptors(), threads, service.resident()


def _frames(draw: random.Random) -> list[bytes]:
    """Return some pictures as JPEG files."""
    found = []
    for _ in range(8):
        image = Image.new("RGB", (320, 240), (draw.randrange(256), 90, 60))
        at = draw.randrange(200)
        ImageDraw.Draw(image).rectangle((at, 40, at + 80, 160), (250, 250, 240))
        buffer = io.BytesIO()
        image.save(buffer, "JPEG")
        found.append(buffer.getvalue())
    return found


@asynccontextmanager
async def _cameras(sources: list[_Source], draw: random.Random) -> AsyncIterator[list[str]]:
    """Serve the sources; yield their addresses."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, ValueError):
            head = await reader.readuntil(b"\r\n\r\n")
            await sources[int(head.split()[1].strip(b"/"))].serve(writer, draw)
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield [f"http://127.0.0.1:{port}/{number}" for number in range(len(sources))]
    finally:
        server.close()
