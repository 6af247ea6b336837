"""Answers requests on the starter models in a process without HTTP; prints what it found as JSON.

Run by test_without_http.py.
"""

import asyncio
import json
import socket
import sys
from pathlib import Path
from typing import Any

from service.app import build_engine
from service.cache.responses import CacheMode
from service.errors import ModelNotReadyError
from service.registry.registry import Registry
from service.requests.answer import answer
from service.requests.documents import Documents
from service.requests.request import Request, Selection
from service.requests.segment_stream import DocumentLimits
from service.requests.translation_stream import SegmentResult, open_translation_stream
from service.settings import Settings
from service.tasks import ClassifyItem, DetectItem, Image, Task, Text, TranslateItem

ROOT = Path(__file__).parents[3]
STARTERS = ROOT / "models" / "repository"
WEB = {"fastapi", "starlette", "uvicorn", "httptools", "h11"}


def refuse(*arguments: Any) -> None:
    raise AssertionError("a socket was opened")


async def ready(registry: Registry) -> None:
    while registry.not_ready():  # noqa: ASYNC110
        await asyncio.sleep(0.05)


async def classified(registry: Registry) -> Any:
    item = ClassifyItem(Text("Stocks fall as oil prices slide"), top_k=1)
    answers = await answer(registry, Request("a"), Task.CLASSIFY, Selection("news-topics"), [item])
    (outcome,) = answers.outcomes
    return outcome.answer.labels[0].name


async def detected(registry: Registry) -> Any:
    image = Image((STARTERS / "cards/1/goldens/0.jpg").read_bytes())
    answers = await answer(
        registry, Request("b"), Task.DETECT, Selection(), [DetectItem(image), DetectItem(image)]
    )
    return [len(outcome.answer.objects) for outcome in answers.outcomes]


async def streamed(registry: Registry) -> Any:
    documents = Documents(DocumentLimits(100, 30.0))
    items = [TranslateItem("我喜欢喝茶。\n她在图书馆工作。"), ModelNotReadyError("not an item")]
    request = Request("c")
    stream = await open_translation_stream(registry, request, Selection(), items, documents)
    with stream:
        events = [event async for event in stream.events()]
    texts = [
        event.result.answer.text
        for event in events
        if isinstance(event, SegmentResult) and not isinstance(event.result, Exception)
    ]
    return {
        "kinds": [type(event).__name__ for event in events],
        "texts": texts,
        "record": (request.record.model and request.record.model.name, request.record.code),
    }


async def cancelled(registry: Registry) -> Any:
    """Cancel requests that wait in a queue, and return how many waited before and after."""
    (engine, *_) = registry.find(Task.TRANSLATE, "text", None, None).engines.values()

    def waiting() -> int:
        statistics = engine.statistics()
        return statistics.pending + statistics.running

    long = "我喜欢喝茶，" * 20
    request = Request("d", cache=CacheMode.BYPASS)
    asked = [
        asyncio.create_task(
            answer(registry, request, Task.TRANSLATE, Selection(), [TranslateItem(f"{n}{long}")])
        )
        for n in range(20)
    ]
    while waiting() < len(asked) // 2:  # noqa: ASYNC110
        await asyncio.sleep(0)
    before = waiting()
    for task in asked:
        task.cancel()
    await asyncio.gather(*asked, return_exceptions=True)
    for _ in range(1000):  # what the device computes at this moment ends with its step
        if not waiting():
            break
        await asyncio.sleep(0.01)
    return before, waiting(), all(task.cancelled() for task in asked)


async def main() -> dict[str, Any]:
    models = {"repository": STARTERS, "only": ["news-topics", "cards", "zh-en"], "device": "cpu"}
    engine = build_engine(Settings.model_validate({"models": models}))
    for name in ("bind", "connect", "connect_ex", "listen"):
        setattr(socket.socket, name, refuse)
    async with engine.running() as registry:
        registry.start()
        await ready(registry)
        found = {
            "classified": await classified(registry),
            "detected": await detected(registry),
            "streamed": await streamed(registry),
            "cancelled": await cancelled(registry),
        }
    found["web"] = sorted(WEB & {name.partition(".")[0] for name in sys.modules})
    return found


if __name__ == "__main__":
    sys.stdout.write(json.dumps(asyncio.run(main())) + "\n")
