"""`python -m benchmarks.protocols`: what a request of a protocol costs more than a native one.

The application is called in this process, without sockets, and every answer is in the cache: what
is left is parsing, items and rendering. Native and protocol take turns. Seconds are those of the
event loop's thread, so other programs change them little.
"""

import argparse
import asyncio
import gc
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import orjson
from rich.console import Console
from rich.table import Table

from service.api.context import Lifecycle
from service.app import build_app
from service.settings import Settings

MOST_MICROSECONDS = 30.0
"""What a protocol may cost more than the native route."""

_TEXTS = ["dog face", "a red apple on a table"]
_HEADLINE = "Stocks fall as oil prices slide"
_PATIENCE = 300.0


@dataclass(frozen=True, slots=True)
class Pair:
    """The same request, natively and by a protocol."""

    name: str
    native: tuple[str, Mapping[str, Any]]
    """Path and body."""
    foreign: tuple[str, Mapping[str, Any]]


_EMBED = ("/v1/embed", {"text": _TEXTS})
_CLASSIFY = ("/v1/classify", {"text": _HEADLINE})

PAIRS: Sequence[Pair] = (
    Pair("openai", _EMBED, ("/v1/embeddings", {"input": _TEXTS, "model": "emoji"})),
    Pair("openai, one text", ("/v1/embed", {"text": "dog"}), ("/v1/embeddings", {"input": "dog"})),
    Pair("tei embed", _EMBED, ("/embed", {"inputs": _TEXTS})),
    Pair("tei predict", _CLASSIFY, ("/predict", {"inputs": _HEADLINE})),
    Pair(
        "tei predict, model in the path",
        _CLASSIFY,
        ("/tei/news-topics/predict", {"inputs": _HEADLINE}),
    ),
    Pair(
        "infinity classify", _CLASSIFY, ("/classify", {"input": [_HEADLINE], "raw_scores": False})
    ),
    Pair("vllm classify", _CLASSIFY, ("/classify", {"input": [_HEADLINE]})),
    Pair("weaviate vectors", _EMBED, ("/vectors", {"texts": _TEXTS})),
    Pair(
        "oip infer",
        _CLASSIFY,
        (
            "/v2/models/news-topics/infer",
            {"inputs": [{"name": "text", "shape": [1], "datatype": "BYTES", "data": [_HEADLINE]}]},
        ),
    ),
    Pair(
        "oip infer, vectors",
        _EMBED,
        (
            "/v2/models/emoji/infer",
            {"inputs": [{"name": "text", "shape": [2], "datatype": "BYTES", "data": _TEXTS}]},
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Cost:
    """Microseconds of one request: medians of the rounds."""

    native: float
    foreign: float

    @property
    def more(self) -> float:
        """Return what the protocol costs more."""
        return self.foreign - self.native


async def measure(app: Any, pair: Pair, requests: int, rounds: int) -> Cost:
    """Send native and protocol requests in turn. Raises RuntimeError for one that fails."""
    found: dict[str, list[float]] = {"native": [], "foreign": []}
    for _ in range(rounds):
        for name, (path, body) in (("native", pair.native), ("foreign", pair.foreign)):
            started = time.thread_time()
            for _ in range(requests):
                await _ask(app, path, orjson.dumps(body))
            found[name].append((time.thread_time() - started) / requests * 1e6)
    return Cost(median(found["native"]), median(found["foreign"]))


async def _ask(app: Any, path: str, body: bytes, method: str = "POST") -> None:
    messages = [{"type": "http.request", "body": body, "more_body": False}]
    statuses: list[int] = []

    async def receive() -> Any:
        return messages.pop() if messages else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    headers = [(b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "query_string": b"",
        "headers": headers,
    }
    await app(scope, receive, send)
    if statuses != [200]:
        raise RuntimeError(f"{path} was answered with {statuses}")


async def _run(given: argparse.Namespace) -> Mapping[str, Cost]:
    models = {"repository": given.starters, "only": ["emoji", "news-topics"], "device": "cpu"}
    app = build_app(Settings.model_validate({"models": models}), Lifecycle())
    async with app.router.lifespan_context(app):
        async with asyncio.timeout(_PATIENCE):
            registry = app.context.registry  # type: ignore[attr-defined]
            while registry.not_ready():  # noqa: ASYNC110 - the registry has no such event
                await asyncio.sleep(0.1)
        costs = {}
        for pair in PAIRS:
            await measure(app, pair, 50, 1)  # into the cache
            gc.collect()
            costs[pair.name] = await measure(app, pair, given.requests, given.rounds)
        return costs


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a table; with --strict return 1 if a protocol costs too much."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.protocols", description=__doc__)
    parser.add_argument("--requests", type=int, default=500, help="of one measurement")
    parser.add_argument("--rounds", type=int, default=15, help="measurements; medians count")
    parser.add_argument("--starters", type=Path, default=Path("models/repository"))
    parser.add_argument("--strict", action="store_true", help="exit with 1 above the limit")
    given = parser.parse_args(arguments)
    costs = asyncio.run(_run(given))
    table = Table("protocol", "native us", "protocol us", "more us")
    for name, cost in costs.items():
        table.add_row(name, f"{cost.native:.1f}", f"{cost.foreign:.1f}", f"{cost.more:+.1f}")
    Console().print(table)
    return int(given.strict and any(cost.more > MOST_MICROSECONDS for cost in costs.values()))


if __name__ == "__main__":
    sys.exit(main())
