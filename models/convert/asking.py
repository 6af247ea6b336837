"""A version's graph, asked through its family: what it is fed, what it gives, what it answers."""

import asyncio
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from models.convert.errors import CheckpointError
from service.engine.device import DeviceRuntime
from service.errors import ServiceError
from service.families.family import SESSION
from service.registry.opening import open_version
from service.repository.deviation import CERTAIN_SCORE, deviation
from service.repository.repository import VersionFiles
from service.runtime.providers import Device
from service.tasks import (
    Answer,
    AnyItem,
    ClassifyItem,
    Detections,
    DetectItem,
    EmbedItem,
    Image,
    Task,
)
from service.transforms.vision.boxes import Boxes, iou_matrix
from service.types import DeviceValue, Feed, Feeds, Session, TensorSpec

_ASKED_SCORE = 0.1
"""Of objects, so that one whose score fell a little below `CERTAIN_SCORE` is still compared."""

_PARTNER = 0.5
"""Least IoU of two boxes of the same object."""

_LISTS = 3
"""Axes from which on a tensor holds several values of each kind: candidates, or pixels."""


@dataclass(slots=True)
class _Recording:
    """A session that keeps what it is fed and what it gives."""

    session: Session
    fed: list[Feeds] = field(default_factory=list)
    given: list[Feeds] = field(default_factory=list)

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        return self.session.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        return self.session.outputs

    def run(self, feeds: Mapping[str, Feed]) -> Feeds:
        given = self.session.run(feeds)
        self.fed.append({name: np.asarray(value) for name, value in feeds.items()})
        self.given.append(given)
        return given

    def run_kept(
        self, feeds: Mapping[str, Feed], host: Collection[str]
    ) -> tuple[Feeds, Mapping[str, DeviceValue]]:
        raise NotImplementedError("a graph that is run once an item keeps nothing")


@dataclass(frozen=True, slots=True)
class Replies:
    """What a graph was fed for some items, one run each, what it gave, and the answers."""

    fed: Sequence[Feeds]
    given: Sequence[Feeds]
    answers: Sequence[Answer]


@dataclass(frozen=True, slots=True)
class AskedGraph:
    """A version whose one graph may be replaced by others."""

    files: VersionFiles
    runtime: DeviceRuntime

    @classmethod
    @contextmanager
    def of(cls, files: VersionFiles) -> Iterator["AskedGraph"]:
        """Use a version. Raises CheckpointError if it has several graphs."""
        if set(files.graphs) != {SESSION}:
            raise CheckpointError(f"{files.model} has several graphs; this is for models of one")
        runtime = DeviceRuntime(Device.parse("cpu"), 1)
        try:
            yield cls(files, runtime)
        finally:
            runtime.close()

    @property
    def graph(self) -> Path:
        """Return the file of the graph."""
        return self.files.graphs[SESSION]

    def ask(self, items: Sequence[AnyItem], graph: Path | None = None) -> Replies:
        """Ask the items one by one, of another graph if one is given.

        Raises:
            CheckpointError: the graph does not fit, or an item cannot be answered.
        """
        files = replace(self.files, graphs={SESSION: graph or self.graph})
        try:
            return asyncio.run(self._ask(files, items))
        except ServiceError as error:
            raise CheckpointError(f"{self.files.model} cannot be asked: {error}") from error

    async def _ask(self, files: VersionFiles, items: Sequence[AnyItem]) -> Replies:
        version = await open_version(files, self.runtime, multi_thread=False)
        sessions = version.runnable.instances.single_thread
        if set(sessions) != {SESSION}:
            raise CheckpointError(f"{files.model} has several parts; this is for models of one")
        recording, answers = _Recording(sessions[SESSION]), []
        processor = version.family.processor
        for item in items:
            prepared = processor.preprocess(item)
            (result,) = version.family.model.infer({SESSION: recording}, [prepared])
            answers.append(processor.postprocess(result, item))
        return Replies(recording.fed, recording.given, answers)


def image_items(task: Task, images: Sequence[Picture.Image]) -> Sequence[AnyItem]:
    """Return the items of a task for images. Raises CheckpointError if it takes none."""
    kinds: Mapping[Task, Callable[[Image], AnyItem]] = {
        Task.CLASSIFY: ClassifyItem,
        Task.DETECT: lambda image: DetectItem(image, threshold=_ASKED_SCORE),
        Task.EMBED: EmbedItem,
    }
    if task not in kinds:
        raise CheckpointError(f"images are not what models of the task {task.value} take")
    return [kinds[task](Image(_encoded(image))) for image in images]


def _encoded(image: Picture.Image) -> bytes:
    file = BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


def loss_of(wanted: Sequence[Answer], given: Sequence[Answer]) -> float:
    """Return how far answers are from others, in per cent: a mean over items of deviations.

    Of a detector it is a mean over the objects of at least `CERTAIN_SCORE` of either side: the
    larger one of what its score and its box (1 - IoU) changed by, and 100 where the other side
    has no object of the label that overlaps it by half.

    Raises:
        CheckpointError: a detector found nothing, so nothing can be compared.
    """
    found: list[float] = []
    for one, other in zip(wanted, given, strict=True):
        if isinstance(one, Detections) and isinstance(other, Detections):
            found += [*_changes(one, other), *_changes(other, one)]
        else:
            found.append(deviation(other, one))
    if not found:
        raise CheckpointError(
            f"no image shows an object with a score of {CERTAIN_SCORE}: give it --calibration"
        )
    return 100 * float(np.mean(found))


def _changes(golden: Detections, answer: Detections) -> Iterator[float]:
    """Yield how much each object of one answer differs from the other's nearest to it."""
    overlaps = iou_matrix(_boxes(golden), _boxes(answer))
    for one, row in zip(golden.objects, overlaps, strict=True):
        if one.score < CERTAIN_SCORE:
            continue
        yield min(
            (
                max(abs(one.score - other.score), 1 - float(overlap))
                for other, overlap in zip(answer.objects, row, strict=True)
                if other.label == one.label and overlap >= _PARTNER
            ),
            default=1.0,
        )


def _boxes(answer: Detections) -> Boxes:
    return np.array([one.box for one in answer.objects], np.float32).reshape(-1, 4)


def noise_of(wanted: Sequence[Feeds], given: Sequence[Feeds]) -> float:
    """Return how much of what a graph gives is noise: 0 is nothing, 1 as much as there is signal.

    Values are compared with others of their kind (the coordinates of boxes, the scores of a
    label): kinds are along the shorter one of the axes behind the first.
    """
    noises = [
        np.sqrt(np.mean(_of_kinds([one[name] for one in wanted], [one[name] for one in given])))
        for name in wanted[0]
    ]
    return float(np.mean(noises))


def _of_kinds(wanted: Sequence[np.ndarray], given: Sequence[np.ndarray]) -> np.ndarray:
    """Return energy of noise by that of signal, at most 1, of each kind."""
    noise = signal = np.zeros(1)
    for one, other in zip(wanted, given, strict=True):
        if one.shape != other.shape:
            return np.ones(1)
        kinds = _by_kind(one)
        spread = kinds - kinds.mean(axis=1, keepdims=True)
        noise = noise + ((kinds - _by_kind(other)) ** 2).sum(axis=1)
        signal = signal + (spread**2).sum(axis=1)
    shares = noise / np.maximum(signal, 1e-12)
    return np.minimum(np.nan_to_num(shares, nan=1.0, posinf=1.0), 1.0)


def _by_kind(values: np.ndarray) -> np.ndarray:
    exact = values.astype(np.float64)
    if exact.ndim < _LISTS:
        return exact.reshape(1, -1)
    axis = 1 if exact.shape[1] <= exact.shape[-1] else -1
    return np.moveaxis(exact, axis, 0).reshape(exact.shape[axis], -1)
