"""`cards` on its test photos, by the measures of COCO; and on drawn cards."""

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image

from models.datasets.detection import Photo, Pixels, read_labels, read_photos
from models.datasets.drawn_cards import HELD_OUT_FONT, RANKS, draw_card
from models.datasets.files import data_folder
from models.evaluate.detection_answers import Detections as Found
from models.evaluate.detection_scores import detection_scores
from models.evaluate.measures import Measure
from models.evaluate.scores import expected_calibration_error
from models.evaluate.served import Served
from service.tasks import Answer, Detections, DetectItem, Image
from service.transforms.vision.boxes import iou_matrix

LOWEST_SHOWN = 0.25  # as in its manifest
NOTHING = 0.4
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
        Measure("expected calibration error", calibration_error(photos, found)),
        *await _measure_drawn(served),
    ]


def calibration_error(photos: Sequence[Photo], found: Sequence[Found]) -> float:
    """Compare scores with how often the box lies on a card of that label (overlap of a half)."""
    scores, right = [], []
    for photo, mine in zip(photos, found, strict=True):
        for box, score, label in zip(mine.boxes, mine.scores, mine.labels, strict=True):
            if score >= LOWEST_SHOWN:
                of_label = photo.boxes[photo.labels == label]
                scores.append(float(score))
                right.append(bool((iou_matrix(box[None], of_label) >= 0.5).any()))
    return expected_calibration_error(scores, right)


async def _measure_drawn(served: Served) -> list[Measure]:
    """Detect the cards of drawn pictures: one card each, in a font not trained on; and nothing."""
    random = np.random.default_rng(1)
    ranks = [*RANKS] * 20
    drawn = [_drawn(rank, random) for rank in ranks]
    best = [_best(answer) for answer in await served.answers(drawn, "drawn cards")]
    right = [label == rank for (label, _), rank in zip(best, ranks, strict=True)]
    backs = await served.answers([_drawn(None, random) for _ in range(120)], "no card")
    empty = await served.answers(
        [_picture(np.full((240, 320, 3), grey, np.uint8)) for grey in range(0, 256, 5)], "empty"
    )
    return [
        Measure(f"drawn cards ({len(ranks)}): right rank first", float(np.mean(right))),
        Measure(
            f"drawn cards of other ranks, backs, blanks ({len(backs)}): no score of {NOTHING}",
            float(np.mean([_best(answer)[1] < NOTHING for answer in backs])),
        ),
        Measure("empty pages: largest score", max(_best(answer)[1] for answer in empty)),
    ]


def _drawn(rank: str | None, random: np.random.Generator) -> DetectItem:
    """Lay a drawn card on a plain ground."""
    card = draw_card(rank, random, (HELD_OUT_FONT,)).pixels
    ground = np.full((320, 320, 3), random.integers(0, 256, 3), np.uint8)
    top, left = random.integers(0, 320 - np.array(card.shape[:2]) + 1)
    ground[top : top + card.shape[0], left : left + card.shape[1]] = card
    return _picture(ground)


def _picture(pixels: Pixels) -> DetectItem:
    file = BytesIO()
    PIL.Image.fromarray(pixels).save(file, "PNG")
    return DetectItem(Image(file.getvalue()), threshold=LOWEST_SCORE)


def _best(answer: Answer) -> tuple[str, float]:
    """Return the label and the score of the best box."""
    objects = answer.objects if isinstance(answer, Detections) else ()
    return (objects[0].label, objects[0].score) if objects else ("", 0.0)


def _as_arrays(answer: Answer, labels: Sequence[str]) -> Found:
    objects = answer.objects if isinstance(answer, Detections) else ()
    return Found(
        np.array([one.box for one in objects], np.float32).reshape(-1, 4),
        np.array([one.score for one in objects], np.float32),
        np.array([labels.index(one.label) for one in objects], np.int64),
    )
