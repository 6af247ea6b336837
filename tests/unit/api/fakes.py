"""A registry without models: its answers are simple, its waiting and failing are real."""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np

from service.cache.memory import NullBackend
from service.cache.responses import CacheMode, CacheOutcome, ResponseCache
from service.errors import (
    ConflictError,
    DeadlineExceededError,
    InferenceError,
    ModelNotFoundError,
    ModelNotReadyError,
    OverloadedError,
)
from service.families.family import CosineScores, Opened, Traits
from service.families.translation.texts import divided
from service.registry.aliases import Weights
from service.registry.parity import Comparison, Parity
from service.registry.registry import Registry
from service.registry.status import ModelState, VersionStatus
from service.registry.workflows import Workflows
from service.repository.listing import ListedWorkflow
from service.repository.repository import PrecisionNotFoundError
from service.repository.workflows import Workflow, read_workflows
from service.requests.pipeline import Outcome, Pipeline, Watch
from service.requests.request import Request
from service.tasks import (
    Ability,
    Answer,
    AnyItem,
    Classification,
    ClassifyItem,
    ComposedTask,
    DetectedObject,
    Detections,
    DetectItem,
    Embedding,
    EmbedItem,
    Frame,
    GenerateItem,
    Generation,
    Image,
    Label,
    TaggedSpan,
    Tagging,
    TagItem,
    Task,
    Text,
    TranslateItem,
    Translation,
)
from service.telemetry.record import Timings
from service.transforms.language.segmentation import Document, Splitting
from service.transforms.vision.image import decode_image
from service.types import ModelIdentity

DIMENSIONS = 4
STARTERS = Path(__file__).parents[3] / "models" / "repository"
_starter_workflows = cache(read_workflows)
MARK = b"\0text:"
"""After the data of an image: what follows is to its models what a text is to theirs."""
MOST_CHARACTERS = 100
"""That the translator reads at once."""


class FakePipeline:
    """Answers at once, unless the text of an item says otherwise."""

    def __init__(self, model: str, version: int = 1) -> None:
        self.model = ModelIdentity(model, version, "digest")
        self.cache = ResponseCache(NullBackend(), enabled=False)
        self.started, self.cancelled = asyncio.Event(), asyncio.Event()
        self.asked: list[tuple[AnyItem, Request]] = []
        self.known: set[bytes] = set()
        self.window = 4
        self.is_in_flight = False
        self.late = asyncio.Event()
        """Set by a test: for the texts "wait" it is as if their deadline had passed."""
        self.is_full = False
        self.holders = self.holders_at_split = 0
        self.family = Opened(cast(Any, None), cast(Any, None), Traits())
        self.task = Task.CLASSIFY
        self.modalities = frozenset[str]()

    @contextmanager
    def held(self) -> Iterator[None]:
        self.holders += 1
        try:
            yield
        finally:
            self.holders -= 1

    def check_room(self) -> None:
        if self.is_full:
            raise OverloadedError("the queue is full", retry_after=1.2)

    async def run_on_thread(self, function: Callable[[], Any], request: Request) -> Any:
        return function()

    async def split(self, item: AnyItem, in_sentences: bool) -> Document | None:
        self.holders_at_split = self.holders
        text = _text(item)
        if text is None or not isinstance(item, TranslateItem):
            return None
        how = Splitting("zh", "en", in_sentences)
        return divided(text, how, lambda part: len(part) <= MOST_CHARACTERS)

    async def answer(
        self, item: AnyItem, request: Request, watch: Watch | None = None
    ) -> Outcome[Answer]:
        self.asked.append((item, request))
        match _text(item):
            case "wait":
                await self._wait(request)
            case "hang":
                await self._hang()
            case "overloaded":
                raise OverloadedError("the queue is full", retry_after=1.2)
            case "busy":
                raise OverloadedError("the queue is full", retry_after=7.0)
            case "inference":
                raise InferenceError("the model failed")
            case "memory":
                raise MemoryError
            case "bug":
                raise RuntimeError("/secret/path")
        timings = Timings(0.001, 0.002, 0.003, 0.004, 0.005)
        return Outcome(_answer(item), self._cache(item, request.cache), timings)

    async def _wait(self, request: Request) -> None:
        """Keep the deadline, as the batcher does."""
        self.started.set()
        try:
            async with asyncio.timeout_at(request.deadline):
                await self.late.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        except TimeoutError:
            pass
        raise DeadlineExceededError("the deadline passed in the queue")

    async def _hang(self) -> None:
        self.started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise

    def _cache(self, item: AnyItem, mode: CacheMode) -> CacheOutcome:
        if mode is CacheMode.BYPASS:
            return CacheOutcome.BYPASS
        if _text(item) == "shared":
            return CacheOutcome.SHARED
        key = item.fingerprint()
        if mode is CacheMode.USE and key in self.known:
            return CacheOutcome.HIT
        self.known.add(key)
        return CacheOutcome.MISS


class FakeRegistry(Registry):
    """One pipeline for each task and modality, as the starter models have it."""

    def __init__(self) -> None:
        translator, cards, emoji = map(FakePipeline, ("zh-en", "cards", "emoji"))
        emoji.task = Task.EMBED
        emoji.family = Opened(
            cast(Any, None), cast(Any, None), Traits(label_scores=CosineScores(10.0))
        )
        self.pipelines: dict[Ability, FakePipeline] = {
            (Task.CLASSIFY, "text"): FakePipeline("news-topics"),
            (Task.CLASSIFY, "image"): FakePipeline("digits"),
            (Task.TAG, "text"): FakePipeline("names"),
            (Task.TRANSLATE, "text"): translator,
            (Task.GENERATE, "text"): FakePipeline("writer"),
            (Task.DETECT, "image"): cards,
            (Task.SPARSE, "text"): FakePipeline("splade"),
            (Task.EMBED, "text"): emoji,
            (Task.EMBED, "image"): emoji,
            (ComposedTask.RERANK, "text"): emoji,
            (ComposedTask.ZERO_SHOT, "text"): emoji,
            (ComposedTask.ZERO_SHOT, "image"): emoji,
        }
        self.workflow_files: dict[str, Workflow | str] = dict(_starter_workflows(STARTERS))
        self.workflows = Workflows(self._listed_workflows, self)
        self.reasons: dict[str, str] = {}
        self.unloaded: list[str] = []
        self.of_model: dict[str, Weights | None] = {}

    def _listed_workflows(self) -> Mapping[str, ListedWorkflow]:
        return {
            name: ListedWorkflow(*((one, None) if isinstance(one, Workflow) else (None, one)))
            for name, one in self.workflow_files.items()
        }

    def find(
        self, task: Any, modality: str, model: str | None, version: int | None, key: str = ""
    ) -> Pipeline[Any, Any]:
        pipeline = self.pipelines[task, modality]
        if model == "loading":
            raise ModelNotReadyError("model 'loading' is not ready: loading")
        if model not in (None, pipeline.model.name) or version not in (None, 1):
            raise ModelNotFoundError(f"there is no model {model!r} of version {version}")
        return cast(Pipeline[Any, Any], pipeline)

    def named(self, model: str, version: int | None = None, key: str = "") -> Pipeline[Any, Any]:
        for (task, _), pipeline in self.pipelines.items():
            if pipeline.model.name == model and version in (None, 1):
                pipeline.task = task
                pipeline.modalities = frozenset(
                    kind for (_, kind), one in self.pipelines.items() if one is pipeline
                )
                return cast(Pipeline[Any, Any], pipeline)
        raise ModelNotFoundError(f"there is no model {model!r} of version {version}")

    def task_of(self, model: str) -> Task | None:
        found = (task for (task, _), one in self.pipelines.items() if one.model.name == model)
        return next(found, None)

    def statuses(self) -> Sequence[VersionStatus]:
        return [_status(pipeline.model.name, 1) for pipeline in self.pipelines.values()]

    def status(self, model: str) -> Sequence[VersionStatus]:
        found = [status for status in self.statuses() if status.model == model]
        if not found:
            raise ModelNotFoundError(f"there is no model {model!r}")
        return found

    def not_ready(self) -> Mapping[str, str]:
        return self.reasons

    async def load(
        self, model: str, version: int | None = None, precision: str | None = None
    ) -> VersionStatus:
        if model == "loading":
            raise ConflictError("a load of 'loading' is already running")
        self.status(model)
        if precision == "fp16":
            raise PrecisionNotFoundError(f"{model}/1 has no fp16 graphs, only fp32, int8")
        return _status(model, version or 1, precision)

    def aliases(self, model: str) -> Mapping[str, Weights]:
        return {alias: weights for alias, weights in self.of_model.items() if weights}

    async def set_alias(self, model: str, alias: str, weights: Weights | None) -> None:
        self.of_model[alias] = weights

    async def unload(self, model: str) -> None:
        self.status(model)
        self.unloaded.append(model)


def _status(model: str, version: int, precision: str | None = None) -> VersionStatus:
    return VersionStatus(
        model,
        version,
        ModelState.READY,
        Task.CLASSIFY,
        precision=precision or "int8",
        labels=("a", "b"),
        statistics={"default": {"pending": 0, "mean": np.float32(0.5)}},
        parity=Parity(
            3, "int8", "cpu", 0.1, 0.05, {"alone": Comparison(0.05, 2, 1)}, 0.0, 0, ["model"], []
        ),
    )


def _text(item: AnyItem) -> str | None:
    match item:
        case TranslateItem() | TagItem() | GenerateItem():
            return item.text
        case ClassifyItem(Text(text)) | EmbedItem(Text(text)):
            return text
        case DetectItem(Image() as image) if (mark := image.data.rpartition(MARK))[1]:
            return mark[2].decode()
        case _:
            return None


def _answer(item: AnyItem) -> Answer:  # noqa: C901, PLR0911 - one for each task
    """Decode images for real: what is no image must be refused as in production."""
    match item:
        case ClassifyItem(content, top_k):
            if not isinstance(content, Text):
                _size(content)
            labels = (Label("business", 0.75), Label("health", 0.25))
            return Classification(labels[:top_k])
        case TagItem(text):
            return Tagging((TaggedSpan("LOC", 0.75, 0, len(text), text),))
        case TranslateItem(text):
            return Translation(f"[{text}]", item.source or "zh", item.target or "en", False)
        case GenerateItem(text):
            return Generation(f"<{text}>", False)
        case DetectItem(image):
            width, height = _size(image)
            return Detections((DetectedObject("ace", 0.9, (1.0, 2.0, 3.0, 4.5)),), width, height)
        case EmbedItem(form="tokens"):
            return Embedding(np.full((2, DIMENSIONS), 0.5, np.float32))
        case EmbedItem(form="sparse"):
            return Embedding(np.array([0.5, 1], np.float32), np.array([3, 9], np.int32))
        case EmbedItem(content):
            if not isinstance(content, Text):
                _size(content)
            return Embedding(np.full(DIMENSIONS, 0.5, np.float32))


def _size(image: Image | Frame) -> tuple[int, int]:
    if isinstance(image, Frame):
        height, width, _ = image.pixels.shape
        return width, height
    return decode_image(image.data).size
