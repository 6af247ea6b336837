"""Single-stage detectors: the YOLO family, and whatever else a declared head describes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError
from service.families.detections import (
    Limits,
    beside,
    kept,
    limits_of,
    named,
    size_of,
    to_original,
)
from service.families.image_input import ImageInput, check_colour
from service.families.scores import check_labels
from service.tasks import Detections, DetectItem
from service.transforms.vision.geometry import Placement, Shape
from service.transforms.vision.head_reader import HeadReader
from service.transforms.vision.head_trial import head_problem, made_up
from service.transforms.vision.heads import HEADS, Head
from service.transforms.vision.image import WHITE
from service.transforms.vision.processing import ImageProcessor, Processing
from service.types import Lane, PreparedItem, Sessions, Tensors, TensorSpec

_LANE = "default"
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
    """What stands in place of these three."""
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
        _ = self.recipe  # refuses sizes that cannot be

    @property
    def limits(self) -> Limits:
        """Return what an item that asks for nothing gets."""
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


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """Task: detect. Graph `model`: images [B, 3, H, W] -> candidates, as its head declares them."""

    labels: tuple[str, ...]
    images: ImageInput
    shape: Shape
    """Of the network's input."""
    reader: HeadReader
    limits: Limits

    @classmethod
    def open(cls, folder: Path, parameters: DetectorParameters) -> "Detector":
        """Need nothing of the folder. Raises ValueError."""
        recipe = parameters.recipe
        if recipe.fixed is None:
            raise ValueError("images must all be made of one size: resize by letterbox or stretch")
        head = parameters.head or HEADS[parameters.layout]
        return cls(
            parameters.labels,
            ImageInput(ImageProcessor(recipe), parameters.background),
            recipe.fixed,
            HeadReader.of(head, len(parameters.labels), recipe.fixed),
            parameters.limits,
        )

    @property
    def modalities(self) -> frozenset[str]:
        """Return "image"."""
        return frozenset({"image"})

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.images.lengths, [_SESSION])]

    def is_heavy(self, item: DetectItem) -> bool:
        """Return True: decoding takes long."""
        return True

    def preprocess(self, item: DetectItem) -> PreparedItem:
        """Decode and fit into the square. Raises InvalidInputError and what decoding raises."""
        limits = self.limits.asked(item)
        pixels, place = self.images.read(item.image)
        return self.images.wrapped(pixels, _LANE, beside(limits, place))

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        """Run once; then threshold, suppress and move the boxes back, image by image.

        Raises:
            InferenceError: the graph's output does not fit the labels or the head.
        """
        session = sessions[_SESSION]
        if len(batch) > 1 and not self.reader.head.batched:
            raise InferenceError(
                "head.batched is false, so the graph takes one image at a time: set "
                "batching.max_batch_size = 1"
            )
        output = self._arranged(session.run(self.images.feeds(batch, session)))
        best = self.reader.best_scores(output)
        return [
            self._found(candidates, scores, work)
            for candidates, scores, work in zip(output, best, batch, strict=True)
        ]

    def postprocess(self, result: Tensors, item: DetectItem) -> Detections:
        """Name the objects."""
        return named(result, self.labels)

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        shapes = {name: spec.shape for name, spec in outputs[_SESSION].items()}
        said = self.reader.misfit(shapes)
        return said and f"{said}; docs/detector-heads.md says how heads are declared"

    def tried(self, sessions: Sessions) -> str | None:
        """Look at the scores for made-up images."""
        session, outputs = sessions[_SESSION], []
        for image in made_up(self.shape):
            pixels, place = self.images.processor(image)
            item = self.images.wrapped(pixels, _LANE, beside(self.limits, place))
            outputs.append(self._arranged(session.run(self.images.feeds([item], session))))
        return head_problem(self.reader, outputs)

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return an image of the one size there is."""
        height, width = self.shape
        place = Placement(1.0, 1.0, 0, 0, width, height)
        return self.images.probe(lane, length, beside(self.limits, place))

    def _arranged(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        try:
            return self.reader.arranged(outputs)
        except ValueError as error:
            raise InferenceError(str(error)) from None

    def _found(
        self, output: NDArray[np.float32], best: NDArray[np.float32], work: PreparedItem
    ) -> Tensors:
        """Turn one image's candidates into its objects, best first."""
        limits = limits_of(work)
        found = self.reader.found(output, best, limits.threshold, self.shape)
        if not self.reader.head.suppress:
            limits = Limits(limits.threshold, None, limits.max_detections)
        chosen = kept(found.boxes, found.scores, found.labels, limits)
        return {
            "boxes": to_original(found.boxes[chosen], work),
            "scores": found.scores[chosen],
            "labels": found.labels[chosen],
            "size": size_of(work),
        }
