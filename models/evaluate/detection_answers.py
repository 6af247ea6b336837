"""From photos to what a detector found in them, by the steps that are served."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from models.datasets.detection import Photo, Pixels
from service.transforms.vision.boxes import corners, suppress, to_original
from service.transforms.vision.geometry import Placement
from service.transforms.vision.processing import ImageProcessor, Processing

IMAGE_SIZE = 320
PAD_VALUE = 114
_SERVED = ImageProcessor(
    Processing(resize="letterbox", size=(IMAGE_SIZE, IMAGE_SIZE), pad_value=PAD_VALUE)
)
IOU_THRESHOLD = 0.5
MAX_DETECTIONS = 100

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps images [B, 3, S, S] to [B, 4 + C, N], the layout of Ultralytics' YOLOv8."""


@dataclass(frozen=True, slots=True)
class Detections:
    """What was found in one photo, best first: boxes [K, 4] in its pixels, scores, labels [K]."""

    boxes: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]


def fit(pixels: Pixels) -> tuple[NDArray[np.float32], Placement]:
    """Letterbox a photo [H, W, 3] to the size the network takes."""
    return _SERVED(Image.fromarray(pixels))


def detect(network: Network, photos: Sequence[Photo], lowest: float) -> list[Detections]:
    """Find the objects of each photo that score more than `lowest`, one photo at a time."""
    found = []
    for photo in photos:
        tensor, place = fit(photo.pixels)
        found.append(read_output(network(tensor[None])[0], place, lowest))
    return found


def read_output(output: NDArray[np.float32], place: Placement, lowest: float) -> Detections:
    """Turn the output [4 + C, N] for one photo into boxes in its pixels.

    Each cell says one label, its best. Boxes of one label suppress each other.
    """
    labels = output[4:].argmax(axis=0)
    scores = output[4:].max(axis=0)
    cells = np.flatnonzero(scores > lowest)
    boxes, scores, labels = corners(output[:4, cells].T), scores[cells], labels[cells]
    kept = suppress(boxes, scores, IOU_THRESHOLD, MAX_DETECTIONS, labels)
    return Detections(to_original(boxes[kept], place), scores[kept], labels[kept])
