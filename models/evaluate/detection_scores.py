"""How good detections are: the measures of COCO."""

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from models.datasets.detection import Photo
from models.evaluate.detection_answers import Detections


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """Mean average precision over the classes, 0..1.

    `map50` counts a box that overlaps by half as right; `map` is the mean over the overlaps
    0.50, 0.55 to 0.95, the main number of COCO; `recall` is the mean recall over the same
    overlaps with up to 100 boxes a photo.
    """

    map50: float
    map: float
    recall: float


def detection_scores(
    photos: Sequence[Photo], found: Sequence[Detections], labels: Sequence[str]
) -> DetectionScores:
    """Compare what was found with what is there, photo by photo.

    Give detections down to a low score (0.001 or so): the measure looks at every threshold.
    """
    truth: list[dict[str, Any]] = []
    answers: list[dict[str, Any]] = []
    for image_id, (photo, mine) in enumerate(zip(photos, found, strict=True), start=1):
        for box, label in zip(photo.boxes, photo.labels, strict=True):
            row = _row(image_id, box, int(label))
            truth.append(row | {"id": len(truth) + 1, "iscrowd": 0})
        for box, score, label in zip(mine.boxes, mine.scores, mine.labels, strict=True):
            answers.append(_row(image_id, box, int(label)) | {"score": float(score)})
    if not answers:
        return DetectionScores(0.0, 0.0, 0.0)
    content = {
        "images": [
            {"id": at, "width": photo.pixels.shape[1], "height": photo.pixels.shape[0]}
            for at, photo in enumerate(photos, start=1)
        ],
        "annotations": truth,
        "categories": [{"id": at, "name": name} for at, name in enumerate(labels)],
    }
    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        reference = COCO(content)
        evaluation = COCOeval_faster(reference, reference.loadRes(answers), "bbox")
        evaluation.run()
    stats = evaluation.stats
    return DetectionScores(map50=float(stats[1]), map=float(stats[0]), recall=float(stats[8]))


def _row(image_id: int, box: NDArray[np.float32], label: int) -> dict[str, Any]:
    left, top, right, bottom = (float(value) for value in box)
    size = [right - left, bottom - top]
    return {
        "image_id": image_id,
        "category_id": label,
        "bbox": [left, top, *size],
        "area": size[0] * size[1],
    }
