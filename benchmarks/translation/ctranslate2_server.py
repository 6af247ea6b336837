"""CTranslate2 behind HTTP, as one would serve it: FastAPI and dynamic batching.

    python -m benchmarks.translation.ctranslate2_server FOLDER PORT WORKERS THREADS MAX_BATCH BEAMS

As many batches run at once as the translator has workers. A worker that becomes free takes all
requests that wait, up to the largest batch; no request waits while a worker is free. The batch
goes to CTranslate2's asynchronous interface, which runs it on a thread of its own.
"""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import ctranslate2
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.translation.ctranslate2_texts import MOST_TOKENS, Texts


class Question(BaseModel):
    """A text to translate."""

    text: str


class DynamicBatching:
    """A queue in front of a translator."""

    def __init__(
        self, translator: ctranslate2.Translator, workers: int, max_batch: int, beams: int
    ) -> None:
        self._translator, self._beams = translator, beams
        self._workers, self._max_batch = workers, max_batch
        self._waiting: deque[tuple[Sequence[str], asyncio.Future[Sequence[str]]]] = deque()
        self._arrival = asyncio.Event()

    async def translate(self, tokens: Sequence[str]) -> Sequence[str]:
        """Return the tokens of a translation."""
        result: asyncio.Future[Sequence[str]] = asyncio.get_running_loop().create_future()
        self._waiting.append((tokens, result))
        self._arrival.set()
        return await result

    async def serve(self) -> None:
        """Run batches until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(self._workers):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            while not self._waiting:
                self._arrival.clear()
                await self._arrival.wait()
            count = min(self._max_batch, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(count)]
            running = self._translator.translate_batch(
                [list(tokens) for tokens, _ in batch],
                beam_size=self._beams,
                max_decoding_length=MOST_TOKENS,
                asynchronous=True,
            )
            found = await asyncio.to_thread(_results, running)
            for (_, result), one in zip(batch, found, strict=True):
                if not result.done():  # the client is still there
                    result.set_result(one.hypotheses[0])


def _results(running: Sequence[Any]) -> Sequence[Any]:
    return [one.result() for one in running]


def create_app(folder: Path, workers: int, threads: int, max_batch: int, beams: int) -> FastAPI:
    """Return an application that translates."""
    texts = Texts(folder)
    translator = ctranslate2.Translator(
        str(folder), compute_type="int8", inter_threads=workers, intra_threads=threads
    )
    batching = DynamicBatching(translator, workers, max_batch, beams)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        serving = asyncio.create_task(batching.serve())
        yield
        serving.cancel()

    app = FastAPI(lifespan=lifespan)

    @app.get("/health/ready")
    async def ready() -> Mapping[str, str]:
        return {"status": "ready"}

    @app.post("/v1/translate")
    async def translate(question: Question) -> Mapping[str, str]:
        tokens = await batching.translate(texts.tokens(question.text))
        return {"translation": texts.text(tokens)}

    return app


if __name__ == "__main__":
    uvicorn.run(
        create_app(Path(sys.argv[1]), *map(int, sys.argv[3:7])),
        port=int(sys.argv[2]),
        access_log=False,
        log_level="warning",
    )
