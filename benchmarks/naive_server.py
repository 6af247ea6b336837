"""What most people write first: FastAPI, one session, one item a call, no batching.

    python -m benchmarks.naive_server FOLDER PORT

A `def` endpoint, so that FastAPI runs it in its thread pool, and onnxruntime's own defaults.
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import Body, FastAPI
from pydantic import BaseModel

from benchmarks.answerers import open_answerer


class Question(BaseModel):
    """A text to classify or to translate."""

    text: str


def create_app(folder: Path) -> FastAPI:
    """Return an application that answers a version's folder."""
    app = FastAPI()
    answerer = open_answerer(folder, threads=None)

    @app.get("/health/ready")
    def ready() -> Mapping[str, str]:
        return {"status": "ready"}

    @app.post("/v1/classify")
    @app.post("/v1/translate")
    def answer_text(question: Question) -> Mapping[str, Any]:
        return answerer.answer(question.text)

    @app.post("/v1/detect")
    def answer_image(image: bytes = Body(media_type="image/jpeg")) -> Mapping[str, Any]:
        return answerer.answer(image)

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(Path(sys.argv[1])), port=int(sys.argv[2]), access_log=False, log_level="warning"
    )
