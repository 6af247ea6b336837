"""`python -m benchmarks.fairness`: a client with one request at a time, alone and during a flood.

Two keys of equal weight share one model without a cache. The flood keeps many requests in flight,
from a process of its own. The light client's 99th percentile should stay within twice that of it
alone, plus one batch: one of the flood may have begun when its request arrives.
"""

import argparse
import hashlib
import itertools
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from multiprocessing.connection import Connection
from multiprocessing.synchronize import Event
from pathlib import Path

from rich.console import Console

from benchmarks.servers import Server
from benchmarks.target import HOST

_KEYS = ("light", "flood")
_TEXT = "Stocks fall as oil prices slide, and the central bank raises its rates again. " * 6


def _request(connection: HTTPConnection, key: str, text: str) -> tuple[int, float, float]:
    """Return the status, the seconds, and the seconds of the batch that computed it."""
    headers = {"X-API-Key": key, "Cache-Control": "no-store", "Content-Type": "application/json"}
    started = time.perf_counter()
    connection.request("POST", "/v1/classify", json.dumps({"text": text}), headers)
    response = connection.getresponse()
    response.read()
    seconds = time.perf_counter() - started
    timing = response.getheader("Server-Timing") or ""
    stages = [stage.strip().partition(";dur=") for stage in timing.split(",")]
    compute = sum(float(value) for name, _, value in stages if name == "compute")
    return response.status, seconds, compute / 1000


def _flood(port: int, clients: int, until: Event, batches: Connection) -> None:
    """Keep one request of each client in flight; then send the seconds of their batches."""
    seconds: list[float] = []

    def client(number: int) -> None:
        connection = HTTPConnection(HOST, port, timeout=60)
        for count in itertools.count():
            if until.is_set():
                return
            status, _, compute = _request(connection, "flood", f"{_TEXT} {number} {count}")
            if status == 429:  # the queue is full
                time.sleep(0.01)
            else:
                seconds.append(compute)

    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(client, range(clients)))
    batches.send(seconds)


def _light(port: int, requests: int, name: str) -> float:
    """Return the 99th percentile of the light client."""
    connection = HTTPConnection(HOST, port, timeout=60)
    seen = [_request(connection, "light", f"{_TEXT} {name} {count}") for count in range(requests)]
    if any(status != 200 for status, _, _ in seen):
        raise RuntimeError("a request of the light client was refused")
    return _percentile([seconds for _, seconds, _ in seen])


def _percentile(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * len(values))]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print both percentiles; return 1 if the flood adds more than the bound."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairness", description=__doc__)
    parser.add_argument("--requests", type=int, default=1000, help="of the light client")
    parser.add_argument("--clients", type=int, default=64, help="of the flood")
    parser.add_argument("--starters", type=Path, default=Path("models/repository"))
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        keys = Path(folder, "keys.toml")
        digests = {key: hashlib.sha256(key.encode()).hexdigest() for key in _KEYS}
        lines = (f'[keys.{key}]\nsha256 = "{digest}"\n' for key, digest in digests.items())
        keys.write_text("\n".join(lines), encoding="utf-8")
        settings = {"QUARTET_ACCESS__KEYS_FILE": str(keys), "QUARTET_MODELS__ONLY": "news-topics"}
        with Server.quartet(given.starters, Path(folder, "log"), settings) as server:
            server.wait_ready()
            _light(server.port, 50, "first")
            alone = _light(server.port, given.requests, "alone")
            context = multiprocessing.get_context("spawn")
            until, (batches, other_end) = context.Event(), context.Pipe(duplex=False)
            flooding = (server.port, given.clients, until, other_end)
            flood = context.Process(target=_flood, args=flooding, daemon=True)
            flood.start()
            time.sleep(2)
            during = _light(server.port, given.requests, "during")
            until.set()
            batch = _percentile(batches.recv())
            flood.join()
    bound = 2 * alone + batch
    Console().print(
        f"p99 alone {alone * 1000:.2f} ms, during {given.clients} requests in flight "
        f"{during * 1000:.2f} ms; its batches {batch * 1000:.2f} ms, bound {bound * 1000:.2f} ms"
    )
    return int(during > bound)


if __name__ == "__main__":
    sys.exit(main())
