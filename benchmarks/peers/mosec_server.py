"""Mosec: a front in Rust passes bytes to processes of Python, which do all the rest.

python -m benchmarks.peers.mosec_server FOLDER PORT ROUTE WORKERS BATCH
"""

import json
import os
from typing import Any

from mosec import Runtime, Server, Worker

from benchmarks.in_process import Item
from benchmarks.peers.answering import Arguments, answers


class ModelWorker(Worker):
    """A process with the model."""

    def __init__(self) -> None:
        """Open the model, in the worker's process."""
        arguments = Arguments.of_this_process()
        self.is_image = arguments.is_image
        self.model = arguments.open_model()

    def deserialize(self, data: bytes) -> Item:
        """Return the image file, or the text of a JSON body."""
        return data if self.is_image else str(json.loads(data)["text"])

    def serialize(self, data: Any) -> bytes:
        """Return the answer as JSON."""
        return json.dumps(data).encode()

    def forward(self, data: Any) -> Any:
        """Answer an item or a batch."""
        return answers(self.model, data)


def serve(arguments: Arguments) -> None:
    """Serve until a signal ends it."""
    os.environ["MOSEC_PORT"] = str(arguments.port)
    server = Server()
    milliseconds = round(1000 * arguments.wait_seconds)
    runtime = Runtime(
        ModelWorker,
        num=arguments.workers,
        max_batch_size=arguments.batch,
        max_wait_time=milliseconds,
        timeout=60,
    )
    server.register_runtime({arguments.route: [runtime]})
    server.run()


if __name__ == "__main__":
    serve(Arguments.of_this_process())
