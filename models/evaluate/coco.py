"""COCO files, and the measures of COCO's library."""

import contextlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from faster_coco_eval import COCO, COCOeval_faster

from models.evaluate.errors import EvaluationError
from service.tasks import Answer, Detections


def coco_table(path: Path) -> dict[str, Any]:
    """Read a COCO file. Raises EvaluationError."""
    try:
        table: dict[str, Any] = json.loads(path.read_bytes())
        if not table["images"] or not table["categories"] or "annotations" not in table:
            raise EvaluationError(f"{path.name} holds no images or no categories")
    except OSError as error:
        raise EvaluationError(f"{path.name} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise EvaluationError(
            f"{path.name} is not a COCO file: it needs images, annotations and categories"
        ) from None
    # What the library needs and many files leave out.
    table["annotations"] = [
        {"area": one["bbox"][2] * one["bbox"][3], "iscrowd": 0, "id": at, **one}
        for at, one in enumerate(table["annotations"], 1)
    ]
    return table


def with_masks(
    table: dict[str, Any], answers: Sequence[Answer], numbers: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Return the objects that have a mask, as COCO's library takes them."""
    return [
        {
            "image_id": image["id"],
            "category_id": numbers[one.label],
            "segmentation": {"size": [answer.height, answer.width], "counts": one.mask.rle},
            "score": one.score,
        }
        for image, answer in zip(table["images"], answers, strict=True)
        if isinstance(answer, Detections)
        for one in answer.objects
        if one.label in numbers and one.mask is not None
    ]


def coco_scores(
    table: dict[str, Any], found: list[dict[str, Any]], kind: Literal["bbox", "segm"]
) -> Sequence[float]:
    """Return the twelve measures of COCO's library for boxes or masks."""
    if not found:
        return [0.0] * 12
    logging.getLogger("faster_coco_eval").setLevel(logging.WARNING)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(table)
        evaluation = COCOeval_faster(truth, truth.loadRes(found), kind)
        evaluation.run()
    return [float(value) for value in evaluation.stats]
