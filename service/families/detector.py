"""One-stage detectors whose output is laid out as YOLOv8's."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError, InvalidInputError
from service.families.inputs import check_colour, check_image_size, stacked
from service.families.labelling import check_labels
from service.tasks import DetectedObject, Detections, DetectItem
from service.transforms.boxes import corners, suppress, unletterbox
from service.transforms.image import WHITE, Letterbox, decode_image, letterbox
from service.types import Lane, Sessions, Tensors, Work

_LANE = "default"
_SESSION = "model"
_MOST_DETECTIONS = 1_000


@dataclass(frozen=True, slots=True)
class DetectorParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    image_size: int
    """Side of the square an image is fitted into."""
    resize: Literal["letterbox"] = "letterbox"
    pad_value: int = 114
    score_threshold: float = 0.25
    iou_threshold: float = 0.5
    max_detections: int = 100
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        check_labels(self.labels)
        check_image_size([self.image_size])
        check_colour([self.pad_value, *self.background])
        try:
            _check(self.score_threshold, self.iou_threshold, self.max_detections)
        except InvalidInputError as error:
            raise ValueError(str(error)) from None


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """Task: detect. Graph `model`: images [B, 3, S, S] in 0..1 -> output0 [B, 4 + labels, N].

    A column of output0 is a candidate: centre x and y, width, height, then a score a label.
    """

    parameters: DetectorParameters

    @classmethod
    def open(cls, folder: Path, parameters: DetectorParameters) -> "Detector":
        """Need nothing of the folder."""
        return cls(parameters)

    @property
    def modalities(self) -> frozenset[str]:
        """Return "image"."""
        return frozenset({"image"})

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, [self.parameters.image_size**2], [_SESSION])]

    def is_heavy(self, item: DetectItem) -> bool:
        """Return True: decoding takes long."""
        return True

    def preprocess(self, item: DetectItem) -> Work:
        """Decode and letterbox; the item's thresholds travel with it.

        Raises:
            InvalidInputError: the image is damaged, or a threshold is out of its range.
            LimitExceededError: the image has too many pixels.
            UnsupportedMediaTypeError: it is of a kind not read here.
        """
        own = self.parameters
        threshold = own.score_threshold if item.threshold is None else item.threshold
        iou = own.iou_threshold if item.iou is None else item.iou
        limit = own.max_detections if item.max_detections is None else item.max_detections
        _check(threshold, iou, limit)
        image = decode_image(
            item.image.data, max_pixels=item.image.max_pixels, background=own.background
        )
        pixels, where = letterbox(image, own.image_size, own.pad_value)
        return _work(pixels, where, (threshold, iou, limit))

    def infer(self, sessions: Sessions, batch: Sequence[Work]) -> Sequence[Tensors]:
        """Run once; then threshold, suppress and move the boxes back, image by image.

        Raises:
            InferenceError: the graph's output does not fit the labels.
        """
        output = sessions[_SESSION].run({"images": stacked(batch, "images")})["output0"]
        if output.shape[1] != 4 + len(self.parameters.labels):
            raise InferenceError(
                f"the graph gives {output.shape[1] - 4} scores for "
                f"{len(self.parameters.labels)} labels"
            )
        best = output[:, 4:].max(axis=1)
        return [
            _found(candidates, scores, work)
            for candidates, scores, work in zip(output, best, batch, strict=True)
        ]

    def postprocess(self, result: Tensors, item: DetectItem) -> Detections:
        """Name the objects."""
        labels, scores, boxes = (result[name].tolist() for name in ("labels", "scores", "boxes"))
        width, height = result["size"].tolist()
        objects = tuple(
            DetectedObject(self.parameters.labels[label], score, tuple(box))
            for label, score, box in zip(labels, scores, boxes, strict=True)
        )
        return Detections(objects, width, height)

    def probe(self, lane: str, length: int) -> Work:
        """Return an image of the one size there is."""
        size, own = self.parameters.image_size, self.parameters
        pixels = np.zeros((3, size, size), np.float32)
        limits = (own.score_threshold, own.iou_threshold, own.max_detections)
        return _work(pixels, Letterbox(1.0, 0, 0, size, size), limits)


def _check(threshold: float, iou: float, limit: int) -> None:
    if not 0 <= threshold <= 1:
        raise InvalidInputError("threshold must be from 0 to 1")
    if not 0 <= iou <= 1:
        raise InvalidInputError("iou must be from 0 to 1")
    if not 1 <= limit <= _MOST_DETECTIONS:
        raise InvalidInputError(f"max_detections must be from 1 to {_MOST_DETECTIONS}")


def _work(pixels: NDArray[Any], where: Letterbox, limits: tuple[float, float, int]) -> Work:
    tensors = {
        "images": pixels,
        "letterbox": np.array([where.scale, where.left, where.top, where.width, where.height]),
        "limits": np.array(limits, np.float64),
    }
    return Work(tensors, _LANE, pixels.shape[1] * pixels.shape[2])


def _found(candidates: NDArray[Any], best: NDArray[Any], work: Work) -> Tensors:
    """Turn one image's candidates [4 + C, N] into its objects, best first."""
    threshold, iou, limit = work.tensors["limits"].tolist()
    scale, *rest = work.tensors["letterbox"].tolist()
    where = Letterbox(scale, *map(int, rest))
    chosen = np.flatnonzero(best >= threshold)
    boxes = corners(candidates[:4, chosen].T)
    labels = candidates[4:, chosen].argmax(axis=0)
    kept = suppress(boxes, best[chosen], iou, int(limit), labels)
    return {
        "boxes": unletterbox(boxes[kept], where),
        "scores": best[chosen][kept],
        "labels": labels[kept],
        "size": np.array([where.width, where.height]),
    }
