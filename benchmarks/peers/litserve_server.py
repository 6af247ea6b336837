"""LitServe: FastAPI in front, and processes with the model behind queues.

python -m benchmarks.peers.litserve_server FOLDER PORT ROUTE WORKERS BATCH
"""

from typing import Annotated, Any

from fastapi import Body
from litserve import LitAPI, LitServer

from benchmarks.in_process import Item
from benchmarks.peers.answering import Arguments, answers


class TextModel(LitAPI):
    """Answers texts in JSON."""

    def setup(self, device: str) -> None:
        """Open the model, in the worker's process."""
        self.model = Arguments.of_this_process().open_model()

    def decode_request(self, request: dict[str, Any]) -> Item:
        """Return the text."""
        return str(request["text"])

    def predict(self, x: Any) -> Any:
        """Answer an item or a batch."""
        return answers(self.model, x)

    def encode_response(self, output: Any) -> Any:
        """Return the answer as it is."""
        return output


class ImageModel(TextModel):
    """Answers image files."""

    def decode_request(self, request: Annotated[bytes, Body(media_type="image/jpeg")]) -> Item:  # type: ignore[override]
        """Return the file."""
        return request


def serve(arguments: Arguments) -> None:
    """Serve until a signal ends it."""
    model = (ImageModel if arguments.is_image else TextModel)(
        max_batch_size=arguments.batch,
        batch_timeout=arguments.wait_seconds,
        api_path=arguments.route,
    )
    server = LitServer(
        model, accelerator="cpu", workers_per_device=arguments.workers, fast_queue=True, timeout=60
    )
    server.run(
        host="127.0.0.1", port=arguments.port, generate_client_file=False, log_level="warning"
    )


if __name__ == "__main__":
    serve(Arguments.of_this_process())
