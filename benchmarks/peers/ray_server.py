"""Ray Serve on this machine, with Quartet and without it, behind one proxy.

python -m benchmarks.peers.ray_server FOLDER PORT ROUTE THREADS 1 REPOSITORY

Quartet answers at ROUTE, with one replica of THREADS threads. Below `/plain-1` and `/plain-8` is
what a user of Ray would write: THREADS replicas with one thread each, the same model, and batches
of Ray's own decorator.
"""

import asyncio
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ray
from ray import serve
from starlette.requests import Request

from benchmarks.in_process import Item, TextOrImage
from benchmarks.peers.answering import Arguments, answers
from service.ray_app import build

PLAIN_BATCHES = (1, 8)
_ONGOING = 128
"""Requests of a replica; Ray's default of 5 would leave few to batch."""


class Plain:
    """One replica without Quartet: a model with one thread."""

    def __init__(self, folder: str, route: str, batch: int) -> None:
        """Open the model."""
        arguments = Arguments(Path(folder), 0, route, 1, batch)
        self._is_image = arguments.is_image
        self._model: TextOrImage = arguments.open_model()
        self.answer.set_max_batch_size(batch)
        self.answer.set_batch_wait_timeout_s(arguments.wait_seconds)

    @serve.batch
    async def answer(self, items: list[Item]) -> Sequence[Mapping[str, Any]]:
        """Answer a batch on a thread, so that the event loop goes on."""
        found: Any = await asyncio.to_thread(answers, self._model, items)
        return found

    async def __call__(self, request: Request) -> Mapping[str, Any]:
        """Answer a request."""
        item = await request.body() if self._is_image else (await request.json())["text"]
        found: Mapping[str, Any] = await self.answer(item)
        return found


def main(arguments: Arguments, repository: str) -> None:
    """Serve until a signal ends it."""
    stop, threads = threading.Event(), arguments.workers
    ray.init(
        num_cpus=threads * (1 + len(PLAIN_BATCHES)),
        include_dashboard=False,
        log_to_driver=False,
        runtime_env={"env_vars": {"PYTHONPATH": str(Path.cwd()), "OMP_NUM_THREADS": "1"}},
        _node_ip_address="127.0.0.1",
    )
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    serve.start(http_options={"host": "127.0.0.1", "port": arguments.port})
    plain = serve.deployment(
        Plain,
        num_replicas=threads,
        max_ongoing_requests=_ONGOING,
        ray_actor_options={"num_cpus": 1},
    )
    for batch in PLAIN_BATCHES:
        name = f"plain-{batch}"
        application = plain.bind(str(arguments.folder), arguments.route, batch)
        serve.run(application, name=name, route_prefix=f"/{name}")
    options = {"models.repository": repository, "ray.num_cpus": threads}
    serve.run(build({**options, "logs.requests_per_second": 0}), name="quartet")
    stop.wait()
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main(Arguments.of_this_process(), sys.argv[6])
