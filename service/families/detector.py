"""Single-stage detectors: the YOLO family, and any other that a declared head describes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError
from service.families.detections import (
    DetectorProcessor,
    Limits,
    extras,
    kept,
    limits_of,
    place_of,
    size_of,
    with_masks,
)
from service.families.family import LANE, SESSION, Opened, SingleGraphModel, Traits, check_labels
from service.families.image_input import PIXELS, ImageInput, check_colour
from service.tasks import Detections, DetectItem, ObjectPart
from service.transforms.vision.boxes import to_original
from service.transforms.vision.geometry import Placement, Shape
from service.transforms.vision.head_extras import Extras, points_to_original
from service.transforms.vision.head_reader import Candidates, HeadReader
from service.transforms.vision.head_trial import head_problem, made_up
from service.transforms.vision.heads import HEADS, Head
from service.transforms.vision.image import WHITE
from service.transforms.vision.masks import Grid, prototype_regions
from service.transforms.vision.processing import ImageProcessor, Processing
from service.transforms.vision.regions import RegionForm
from service.transforms.vision.rotated import enclosing, rotated_to_original, suppress_rotated
from service.types import PreparedItem, Sessions, Tensors, TensorSpec


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
    prototypes: str | None = None
    """Output of mask prototypes [B, k, height, width], of a head that ends with k numbers for the
    mask of each candidate."""
    keypoints: tuple[int, int] | None = None
    """Number of keypoints, and the numbers of each (x, y and perhaps visibility), of a head that
    ends with them."""
    rotated: bool = False
    """Whether the head ends with the angle of each box, in radians."""
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
        _ = self.recipe, self.extras  # which validate their keys

    @property
    def limits(self) -> Limits:
        """Return the limits of an item that sets none."""
        masks: RegionForm | None = None if self.prototypes is None else "rle"
        return Limits(self.score_threshold, self.iou_threshold, self.max_detections, masks)

    @property
    def extras(self) -> Extras:
        """Return what the head says besides boxes. Raises ValueError."""
        return Extras(self.prototypes, self.keypoints, self.rotated)

    @property
    def finds(self) -> frozenset[ObjectPart]:
        """Return what is found of an object besides its box."""
        parts: Mapping[ObjectPart, bool] = {
            "masks": self.prototypes is not None,
            "keypoints": self.keypoints is not None,
            "rotated_box": self.rotated,
        }
        return frozenset(part for part, is_found in parts.items() if is_found)

    @property
    def named_head(self) -> Head:
        """Return the head, declared or named."""
        head = self.head or HEADS[self.layout]
        return replace(head, boxes="centre") if self.rotated and self.head is None else head

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
    shape = recipe.fixed or (recipe.size if recipe.resize == "letterbox" else None)
    if shape is None:
        raise ValueError("images must all be made of one size: resize by letterbox or stretch")
    head = parameters.named_head
    if head.strides and recipe.fixed is None:
        raise ValueError("a head with strides reads images of one size: leave out canvas_stride")
    images = ImageInput(ImageProcessor(recipe), parameters.background)
    reader = HeadReader.of(head, len(labels), shape, parameters.extras)
    model = DetectorModel(images, shape, reader, parameters.limits)
    traits: Traits[DetectItem, Detections] = Traits(
        head_problem=model.head_problem, try_head=model.try_head, finds=parameters.finds
    )
    return Opened(DetectorProcessor(labels, images, parameters.limits), model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class DetectorModel(SingleGraphModel[ImageInput]):
    """Graph `model`: images [B, 3, H, W] -> candidates, as its head declares them."""

    shape: Shape
    """Height and width of the network's input, or the most of them."""
    reader: HeadReader
    limits: Limits

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        if len(batch) > 1 and not self.reader.head.batched:
            raise InferenceError(
                "head.batched is false, so the graph takes one image at a time: set "
                "batching.max_batch_size = 1"
            )
        outputs = session.run(self.input.feeds_for(session, batch))
        output = self._arranged(outputs)
        best, maps = self.reader.best_scores(output), self.reader.extras.maps(outputs)
        return [
            self._found(candidates, scores, prepared, None if maps is None else maps[row])
            for row, (candidates, scores, prepared) in enumerate(
                zip(output, best, batch, strict=True)
            )
        ]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        height, width = self.input.shape_of(length)
        place = Placement(1.0, 1.0, 0, 0, width, height)
        return self.input.probe(lane, length, extras(self.limits, place))

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        shapes = {name: spec.shape for name, spec in outputs[SESSION].items()}
        problem = self.reader.misfit(shapes)
        return problem and f"{problem}; docs/detector-heads.md says how heads are declared"

    def try_head(self, sessions: Sessions) -> str | None:
        """Check the scores for a few synthetic images."""
        session, outputs = sessions[SESSION], []
        for image in made_up(self.shape):
            pixels, place = self.input.processor(image)
            item = self.input.wrap(pixels, LANE, extras(self.limits, place))
            outputs.append(self._arranged(session.run(self.input.feeds_for(session, [item]))))
        return head_problem(self.reader, outputs)

    def _arranged(self, outputs: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
        try:
            return self.reader.arranged(outputs)
        except ValueError as error:
            raise InferenceError(str(error)) from None

    def _found(
        self,
        output: NDArray[np.float32],
        best: NDArray[np.float32],
        prepared: PreparedItem,
        prototypes: NDArray[np.float32] | None,
    ) -> Tensors:
        """Return one image's objects, best first."""
        limits, place = limits_of(prepared), place_of(prepared)
        height, width = prepared.tensors[PIXELS].shape[1:]
        found = self.reader.found(output, best, limits.threshold, (height, width))
        if not self.reader.head.suppress:
            limits = replace(limits, iou=None)
        extras = self.reader.extras
        if extras.rotated:
            return self._rotated(found, limits, prepared)
        chosen = kept(found.boxes, found.scores, found.labels, limits)
        answer: dict[str, NDArray[Any]] = {
            "boxes": to_original(found.boxes[chosen], place),
            "scores": found.scores[chosen],
            "labels": found.labels[chosen],
            "size": size_of(prepared),
        }
        more = found.extras[chosen]
        if extras.keypoints is not None:
            answer["keypoints"] = points_to_original(more, extras.keypoints, place)
        if prototypes is None or limits.masks is None:
            return answer
        grid = Grid.of((prototypes.shape[1], prototypes.shape[2]), (height, width), place)
        regions = prototype_regions(prototypes, more, answer["boxes"], grid)
        return with_masks(answer, regions, limits.masks)

    def _rotated(self, found: Candidates, limits: Limits, prepared: PreparedItem) -> Tensors:
        place, upright = place_of(prepared), found.boxes
        middle, size = (upright[:, :2] + upright[:, 2:]) / 2, upright[:, 2:] - upright[:, :2]
        rotated = np.concatenate([middle, size, found.extras[:, :1]], axis=1)
        if limits.iou is None:
            chosen = kept(upright, found.scores, found.labels, limits)
        else:
            most = limits.max_detections
            chosen = suppress_rotated(rotated, found.scores, limits.iou, most, found.labels)
        moved = rotated_to_original(rotated[chosen], place)
        edges = np.array([place.width, place.height] * 2, np.float32)
        return {
            "boxes": np.clip(enclosing(moved), 0, edges),
            "scores": found.scores[chosen],
            "labels": found.labels[chosen],
            "size": size_of(prepared),
            "rotated": moved,
        }
