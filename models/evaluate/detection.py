"""`cards` on its test photos, by the measures of COCO."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from models.datasets.detection import read_labels, read_photos
from models.datasets.files import data_folder
from models.evaluate.detection_answers import Detections as Found
from models.evaluate.detection_scores import detection_scores
from models.evaluate.measures import Measure
from models.evaluate.served import Served
from service.tasks import Answer, Detections, DetectItem, Image

LOWEST_SCORE = 0.001
"""The measures look at every threshold, so nearly everything that was found is asked for."""


async def measure_cards(served: Served, data: Path) -> list[Measure]:
    """Detect the cards of every test photo."""
    folder = data_folder(data, "playing_cards")
    photos, labels = read_photos(folder, "test"), read_labels(folder)
    items = [
        DetectItem(
            Image((folder / "images" / photo.file_name).read_bytes()),
            threshold=LOWEST_SCORE,
            max_detections=100,
        )
        for photo in photos
    ]
    found = [_as_arrays(answer, labels) for answer in await served.answers(items, "photos")]
    scores = detection_scores(photos, found, labels)
    return [
        Measure("mAP@0.5", scores.map50),
        Measure("COCO mAP (mean of 0.50 to 0.95)", scores.map),
        Measure("mean recall, 100 boxes", scores.recall),
    ]


def _as_arrays(answer: Answer, labels: Sequence[str]) -> Found:
    objects = answer.objects if isinstance(answer, Detections) else ()
    return Found(
        np.array([one.box for one in objects], np.float32).reshape(-1, 4),
        np.array([one.score for one in objects], np.float32),
        np.array([labels.index(one.label) for one in objects], np.int64),
    )
