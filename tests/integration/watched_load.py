"""A load that is known to the last request, and a Prometheus that watched it."""

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from service.access.keys_file import digest_of
from tests.integration.http_server import request
from tests.integration.real_service import STARTERS, real_service
from tests.prometheus_server import PrometheusServer, Sample, prometheus_program
from tests.redis_server import RedisServer, redis_program

LOAD_SECONDS = 20.0
KEYS = ("app", "web")
"""Names of the keys; requests of even turns have the first."""
WINDOW = 14
"""Seconds that rates are taken over, at the end of the load and wholly within it."""


@dataclass(frozen=True)
class Asked:
    """One request of one item and what became of it."""

    at: float
    model: str
    status: int
    outcome: str
    cache: str
    key: str


@dataclass
class Watched:
    """A Prometheus that has seen a load, and the load."""

    prometheus: PrometheusServer
    asked: list[Asked]
    ended: float

    def rates(self, what: str, **of: str) -> dict[str, float]:
        """Return by one attribute how many requests a second ended within the window."""
        seen = [a for a in self.asked if self.ended - WINDOW < a.at <= self.ended]
        chosen = [a for a in seen if all(getattr(a, key) == value for key, value in of.items())]
        counts = Counter(str(getattr(one, what)) for one in chosen)
        return {key: count / WINDOW for key, count in counts.items()}

    def query(self, expr: str, model: str = ".*", version: str = ".*") -> Sequence[Sample]:
        """Evaluate a panel's query at the end of the load."""
        chosen = {"$__rate_interval": f"{WINDOW}s", "$instance": ".*"}
        for name, value in (chosen | {"$model": model, "$version": version}).items():
            expr = expr.replace(name, value)
        assert "$" not in expr, expr
        return self.prometheus.query(expr, self.ended)


def golden_image(model: str) -> bytes:
    folder = STARTERS / model / "1"
    goldens = json.loads((folder / "goldens.json").read_text())["items"]
    return (folder / next(g["item"]["image"] for g in goldens if "image" in g["item"])).read_bytes()


def requests_of(turn: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Return what is asked in a turn: some that is new, some known, some that must fail."""
    fresh = {"Cache-Control": "no-store"}
    image = {"Content-Type": "image/png", **fresh}
    yield "/v1/classify", {"json": {"text": f"Stocks fall for the {turn}. time"}}
    yield "/v1/classify", {"json": {"text": "Stocks fall as oil prices slide"}}
    yield "/v1/classify", {"content": golden_image("digits"), "headers": image}
    if turn % 2 == 0:
        yield "/v1/classify", {"json": {"text": "nobody", "model": "no-such-model"}}
        yield "/v1/embed", {"json": {"text": f"rocket {turn}"}}
        yield "/v1/translate", {"json": {"text": f"我有{turn}本书。"}}
        stream = {"text": f"他有{turn}个朋友。", "stream": "segments"}
        yield "/v1/translate", {"json": stream}
    if turn % 4 == 0:
        yield "/v1/detect", {"content": golden_image("cards"), "headers": image}


def hurried_request(turn: int) -> bytes:
    """Return a request that no machine answers in time.

    It must be sent at once: if its body came later than its head, and on a busy machine that is
    25 ms sooner or later, it would not have arrived in time (408), and no item would be counted.
    """
    long = {"text": f"汤姆昨天没有去学校,{turn}" * 16}
    headers = ("X-Request-Timeout-Ms: 25", "Connection: close", f"X-API-Key: {KEYS[0]}")
    return request("/v1/translate", long, *headers)


def keys_file(folder: Path) -> Path:
    """Return a keys file in which every key is its name."""
    path = folder / "keys.toml"
    path.write_text(
        "".join(f'[keys.{key}]\nsha256 = "{digest_of(key.encode()).hex()}"\n' for key in KEYS)
    )
    return path


async def put_load(url: str, seconds: float) -> list[Asked]:
    """Ask at a steady pace, whatever the answers take; return what was asked."""
    asked: list[Asked] = []
    unnamed = {"/v1/translate": "zh-en", "/v1/embed": "emoji", "/v1/detect": "cards"}

    async def ask(client: httpx.AsyncClient, key: str, path: str, wanted: dict[str, Any]) -> None:
        headers = {"X-API-Key": key, **wanted.get("headers", {})}
        answer = await client.post(f"{url}{path}", **{**wanted, "headers": headers})
        ok = answer.is_success
        told = json.loads(answer.text.partition("\n")[0])  # of a stream its first line
        model = told["model"] if ok else unnamed.get(path, "_unknown_")
        outcome = "ok" if ok else told["code"]
        how = answer.headers.get("x-cache", "")
        asked.append(Asked(time.time(), model, answer.status_code, outcome, how, key))

    async def ask_in_a_hurry(turn: int) -> None:
        reader, writer = await asyncio.open_connection(*url.removeprefix("http://").split(":"))
        writer.write(hurried_request(turn))
        head, body = (await reader.read()).split(b"\r\n\r\n", 1)
        writer.close()
        status, code = int(head.split(b" ")[1]), json.loads(body)["code"]
        asked.append(Asked(time.time(), "zh-en", status, code, "", KEYS[0]))

    async with httpx.AsyncClient(timeout=120) as client, asyncio.TaskGroup() as group:
        started = time.monotonic()
        for turn in range(int(seconds * 4)):
            await asyncio.sleep(started + turn / 4 - time.monotonic())
            for path, wanted in requests_of(turn):
                group.create_task(ask(client, KEYS[turn % 2], path, wanted))
            if turn % 4 == 0:
                group.create_task(ask_in_a_hurry(turn))
    return asked


@contextmanager
def watching_a_load(folder: Path) -> Iterator[Watched]:
    """Put the load on a service of its own; then Prometheus can be asked until the block ends."""
    program, redis = prometheus_program(), RedisServer(redis_program(), folder)
    try:
        options = (f"--cache.redis-url={redis.url}", f"--access.keys-file={keys_file(folder)}")
        with real_service(folder, *options) as service:
            prometheus = PrometheusServer(program, folder, service.url.removeprefix("http://"))
            try:
                asked = asyncio.run(put_load(service.url, LOAD_SECONDS))
                ended = max(one.at for one in asked)
                time.sleep(1.5)
                yield Watched(prometheus, asked, ended)
            finally:
                prometheus.end()
    finally:
        redis.kill()
