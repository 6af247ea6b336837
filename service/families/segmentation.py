"""What families that find masks share: parameters, and the answer to one image."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import LimitExceededError
from service.families.detections import (
    DetectorProcessor,
    Limits,
    extras,
    limits_of,
    place_of,
    size_of,
    with_masks,
)
from service.families.family import Opened, SingleGraphModel, Traits, check_labels
from service.families.image_input import PIXELS, ImageInput, check_colour
from service.tasks import Detections, DetectItem
from service.transforms.vision.geometry import Placement
from service.transforms.vision.image import WHITE
from service.transforms.vision.label_maps import LabelMap, Place, best_map, label_regions, places
from service.transforms.vision.masks import Grid, Map
from service.transforms.vision.processing import ImageProcessor, Processing
from service.transforms.vision.regions import Region
from service.types import PreparedItem, Tensors, TensorSpec


@dataclass(frozen=True, slots=True)
class SegmentingParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    processing: Processing
    """How images are processed. They must be neither cropped nor padded."""
    score_threshold: float | None = None
    """Least score of an object, where the item does not say. If not given: 0 where an object is
    all pixels of a label, else 0.5."""
    max_detections: int = 1000
    """Most objects of an answer, where the item does not say."""
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_colour(self.background)
        self.limits.checked()
        if self.processing.crop is not None or self.processing.pad is not None:
            raise ValueError("images to segment must be neither cropped nor padded")

    @property
    def limits(self) -> Limits:
        """Return the limits of an item that sets none."""
        usual = 0.0 if self.labels_pixels else 0.5
        least = usual if self.score_threshold is None else self.score_threshold
        return Limits(least, None, self.max_detections, "rle")

    @property
    def labels_pixels(self) -> bool:
        """Tell whether an object is all pixels of a label."""
        return True


@dataclass(frozen=True, slots=True, eq=False)
class SegmentingModel(SingleGraphModel[ImageInput]):
    """A model of one graph whose objects have masks; a family adds `infer` and `head_problem`."""

    limits: Limits

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        place = Placement(1.0, 1.0, 0, 0, 1, 1)
        return self.input.probe(lane, length, extras(self.limits, place))

    @abstractmethod
    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the graph's outputs with the labels. Return what does not fit, or None."""


def open_segmenting(
    parameters: SegmentingParameters, make: Callable[[ImageInput], SegmentingModel]
) -> Opened[DetectItem, Detections]:
    """Return a family that finds masks, with the model that `make` returns."""
    images = ImageInput(ImageProcessor(parameters.processing), parameters.background)
    model = make(images)
    traits: Traits[DetectItem, Detections] = Traits(
        head_problem=model.head_problem, finds=frozenset({"masks"})
    )
    return Opened(DetectorProcessor(parameters.labels, images, parameters.limits), model, traits)


def grid_of(prepared: PreparedItem, maps: tuple[int, int]) -> Grid:
    """Return where an item's image lies in maps of this height and width."""
    height, width = prepared.tensors[PIXELS].shape[1:]
    return Grid.of(maps, (height, width), place_of(prepared))


def best_labels(maps: Map, grid: Grid) -> LabelMap:
    """Return `best_map`. Raises LimitExceededError if the image is too large for it."""
    try:
        return best_map(maps, grid)
    except ValueError as error:
        raise LimitExceededError(str(error)) from None


def answer(
    prepared: PreparedItem,
    boxes: Sequence[tuple[int, int, int, int]],
    scores: NDArray[np.float32],
    labels: NDArray[np.intp],
    regions: Iterator[Region],
) -> Tensors:
    """Return the objects of one image, best first, with masks if the item asks for them."""
    found: Tensors = {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "scores": scores,
        "labels": labels,
        "size": size_of(prepared),
    }
    form = limits_of(prepared).masks
    return found if form is None else with_masks(found, regions, form)


def labelled(
    prepared: PreparedItem, labels: LabelMap, scored: Callable[[Sequence[int]], Sequence[float]]
) -> Tensors:
    """Return the labels that pixels have, one object each, best first.

    Args:
        prepared: the item.
        labels: the label of each pixel of the image.
        scored: returns the scores of these labels.
    """
    limits, found = limits_of(prepared), places(labels)
    scores = np.array(scored([one.label for one in found]), np.float32)
    order = np.argsort(-scores, kind="stable")
    best = order[scores[order] >= limits.threshold][: limits.max_detections]
    chosen: Sequence[Place] = [found[number] for number in best.tolist()]
    return answer(
        prepared,
        [one.box for one in chosen],
        scores[best],
        np.array([one.label for one in chosen], np.intp),
        label_regions(labels, chosen),
    )


def shares_of(maps: Map, labels: Sequence[int]) -> Sequence[float]:
    """Return the mean probability of each label where it is the best, from maps of logits."""
    best = maps.max(axis=0)
    total = sum(np.exp(one - best) for one in maps)
    scores = []
    for label in labels:
        shares = np.exp(maps[label] - best) / total
        wins = maps[label] == best
        # A label may win between two numbers of the map alone.
        scores.append(float(shares[wins].mean() if wins.any() else shares.max()))
    return scores
