"""Single-stage detectors: the YOLO family, and any other that a declared head describes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError
from service.families.detections import (
    DETECTOR_LANE,
    DetectorProcessor,
    Limits,
    extras,
    kept,
    limits_of,
    place_of,
    size_of,
)
from service.families.family import Opened, Traits, check_labels
from service.families.image_input import ImageInput, check_colour
from service.tasks import Detections, DetectItem
from service.transforms.vision.boxes import to_original
from service.transforms.vision.geometry import Placement, Shape
from service.transforms.vision.head_reader import HeadReader
from service.transforms.vision.head_trial import head_problem, made_up
from service.transforms.vision.heads import HEADS, Head
from service.transforms.vision.image import WHITE
from service.transforms.vision.processing import ImageProcessor, Processing
from service.types import Lane, Model, PreparedItem, Sessions, Tensors, TensorSpec

_SESSION = "model"


@dataclass(frozen=True, slots=True)
class DetectorParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    image_size: int | tuple[int, int] | None = None
    """Side of the square an image is fitted into, or height and width."""
    resize: Literal["letterbox", "stretch"] = "letterbox"
    """Whether an image keeps its shape on a grey canvas, or is stretched."""
    pad_value: int = 114
    """Grey around a letterboxed image, 0 to 255."""
    processing: Processing | None = None
    """Replaces these three keys."""
    layout: Literal["yolov8", "yolov5", "yolox", "end_to_end"] = "yolov8"
    """How the graph lays out its candidates; YOLO 9 and 11 are as v8, v10 is end to end."""
    head: Head | None = None
    """A layout without a name of its own."""
    score_threshold: float = 0.25
    """Least score of an object, where the item does not say."""
    iou_threshold: float = 0.5
    """Of two boxes of a label that overlap by more, the better one is kept."""
    max_detections: int = 100
    """Most objects of an answer, where the item does not say."""
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_colour([self.pad_value, *self.background])
        self.limits.checked()
        _ = self.recipe  # validates the sizes

    @property
    def limits(self) -> Limits:
        """Return the limits of an item that sets none."""
        return Limits(self.score_threshold, self.iou_threshold, self.max_detections)

    @property
    def recipe(self) -> Processing:
        """Return how images are processed. Raises ValueError."""
        if self.processing is not None:
            if self.image_size is not None:
                raise ValueError("say processing or image_size, but not both")
            return self.processing
        if self.image_size is None:
            raise ValueError("image_size must be given where there is no processing")
        side = self.image_size
        size = (side, side) if isinstance(side, int) else side
        return Processing(resize=self.resize, size=size, pad_value=self.pad_value)


def open_detector(folder: Path, parameters: DetectorParameters) -> Opened[DetectItem, Detections]:
    """Use nothing of the folder. Raises ValueError."""
    recipe, labels = parameters.recipe, parameters.labels
    if recipe.fixed is None:
        raise ValueError("images must all be made of one size: resize by letterbox or stretch")
    images = ImageInput(ImageProcessor(recipe), parameters.background)
    head = parameters.head or HEADS[parameters.layout]
    reader = HeadReader.of(head, len(labels), recipe.fixed)
    model = DetectorModel(images, recipe.fixed, reader, parameters.limits)
    traits: Traits[DetectItem, Detections] = Traits(
        head_problem=model.head_problem, try_head=model.try_head
    )
    return Opened(DetectorProcessor(labels, images, parameters.limits), model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class DetectorModel(Model):
    """Graph `model`: images [B, 3, H, W] -> candidates, as its head declares them."""

    images: ImageInput
    shape: Shape
    """Height and width of the network's input."""
    reader: HeadReader
    limits: Limits

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [Lane(DETECTOR_LANE, self.images.lengths, [_SESSION])]

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[_SESSION]
        if len(batch) > 1 and not self.reader.head.batched:
            raise InferenceError(
                "head.batched is false, so the graph takes one image at a time: set "
                "batching.max_batch_size = 1"
            )
        output = self._arranged(session.run(self.images.feeds(batch, session)))
        best = self.reader.best_scores(output)
        return [
            self._found(candidates, scores, prepared)
            for candidates, scores, prepared in zip(output, best, batch, strict=True)
        ]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        height, width = self.shape
        place = Placement(1.0, 1.0, 0, 0, width, height)
        return self.images.probe(lane, length, extras(self.limits, place))

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        shapes = {name: spec.shape for name, spec in outputs[_SESSION].items()}
        problem = self.reader.misfit(shapes)
        return problem and f"{problem}; docs/detector-heads.md says how heads are declared"

    def try_head(self, sessions: Sessions) -> str | None:
        """Check the scores for a few synthetic images."""
        session, outputs = sessions[_SESSION], []
        for image in made_up(self.shape):
            pixels, place = self.images.processor(image)
            item = self.images.wrap(pixels, DETECTOR_LANE, extras(self.limits, place))
            outputs.append(self._arranged(session.run(self.images.feeds([item], session))))
        return head_problem(self.reader, outputs)

    def _arranged(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        try:
            return self.reader.arranged(outputs)
        except ValueError as error:
            raise InferenceError(str(error)) from None

    def _found(
        self, output: NDArray[np.float32], best: NDArray[np.float32], prepared: PreparedItem
    ) -> Tensors:
        """Return one image's objects, best first."""
        limits = limits_of(prepared)
        found = self.reader.found(output, best, limits.threshold, self.shape)
        if not self.reader.head.suppress:
            limits = Limits(limits.threshold, None, limits.max_detections)
        chosen = kept(found.boxes, found.scores, found.labels, limits)
        return {
            "boxes": to_original(found.boxes[chosen], place_of(prepared)),
            "scores": found.scores[chosen],
            "labels": found.labels[chosen],
            "size": size_of(prepared),
        }
