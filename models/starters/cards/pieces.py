"""Cards cut out of photos, to be pasted into scenes."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from models.datasets.detection import Outline, Photo, Pixels, Points


@dataclass(frozen=True, slots=True)
class Piece:
    """Something to paste: pixels, and its polygon [K, 2] in them."""

    label: int
    pixels: Pixels
    points: Points


def cut_pieces(photos: Sequence[Photo], outlines: Sequence[Sequence[Outline]]) -> list[Piece]:
    """Cut out every object that is seen whole: a clean quadrangle away from rim and neighbours."""
    pieces = []
    for photo, found in zip(photos, outlines, strict=True):
        height, width = photo.pixels.shape[:2]
        for place, outline in enumerate(found):
            points, box = outline.points, photo.boxes[place]
            others = np.delete(photo.boxes, place, axis=0)
            apart = np.maximum(others[:, :2] - box[2:], box[:2] - others[:, 2:]).max(axis=1) > 0
            inside = box[:2].min() > 2 and box[2] < width - 2 and box[3] < height - 2
            rectangle = cv2.minAreaRect(points)[1]
            full = cv2.contourArea(points) > 0.85 * rectangle[0] * rectangle[1]
            if not (outline.clean and apart.all() and inside and full):
                continue
            low = np.maximum(box[:2].astype(int) - 4, 0)
            high = box[2:].astype(int) + 5
            crop = photo.pixels[low[1] : high[1], low[0] : high[0]]
            # The very rim shows the old background, so a little of it is left behind.
            middle = points.mean(0)
            shrunk = middle + (points - middle) * (1 - 2.0 / float(np.hypot(*(box[2:] - box[:2]))))
            pieces.append(Piece(outline.label, crop, (shrunk - low).astype(np.float32)))
    return pieces
