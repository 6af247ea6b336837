"""How far an answer is from the golden one. Pure functions; what is tolerable, others know."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.tasks import (
    Answer,
    Classification,
    DetectedObject,
    Detections,
    Embedding,
    Generation,
    Inference,
    Mask,
    TaggedSpan,
    Tagging,
    Task,
    Translation,
)
from service.transforms.vision.boxes import Boxes, iou_matrix
from service.transforms.vision.regions import mask_of
from service.transforms.vision.rotated import rotated_overlaps

CERTAIN_SCORE = 0.3
"""Golden objects below it are too close to a usual threshold to be asked for."""

MATCHING_IOU = 0.9

_PLACE = 2
"""Numbers of a keypoint's place; how visible it is may follow."""
_NEAR_POINT = 0.05
"""How far a keypoint may be from its golden place, as a share of the box's diagonal."""

_TIE = 1e-6
"""Labels whose scores differ by less are equally good."""


def deviation(answer: Answer, golden: Answer) -> float:  # noqa: PLR0911 - one for each task
    """Return the distance of an answer from the golden answer to the same item; 0 is equal.

    Classify, embed and infer: the largest absolute difference of a score or an element; strings
    that differ count 1.
    Translate and generate: 0 if the texts are equal, else 1. Tag: the largest difference of scores,
    where a span that only one of both has counts its score.
    Detect: the largest difference of scores over the golden objects of at least `CERTAIN_SCORE`,
    where one that has no partner of its label and `MATCHING_IOU` counts 1; a golden mask, rotated
    box or set of keypoints must match, too.
    It is infinite for answers that cannot be compared (of another task, with other labels, of
    another length) or that are not finite.
    """
    match answer, golden:
        case Classification(), Classification():
            return _of_labels(answer, golden)
        case (Translation(text=got), Translation(text=wanted)) | (
            Generation(text=got),
            Generation(text=wanted),
        ):
            return float(got != wanted)
        case Detections(), Detections():
            return _of_objects(answer, golden)
        case Tagging(), Tagging():
            return _of_spans(answer.spans, golden.spans)
        case Embedding(), Embedding():
            return _of_vectors(answer, golden)
        case Inference(), Inference():
            return _of_tensors(answer, golden)
        case _:
            return math.inf


def decides_otherwise(answer: Answer, golden: Answer) -> bool:
    """Tell whether who acts on these two answers would act differently.

    Classify: the best label differs. Translate, generate: the text. Tag: the spans. Detect: a
    golden object of at least `CERTAIN_SCORE` has no partner. Vectors and tensors decide nothing by
    themselves.
    """
    match answer, golden:
        case Classification(), Classification():
            scores = {label.name: label.score for label in answer.labels}
            best = golden.labels[0].name if golden.labels else None
            return max(scores.values(), default=0.0) - scores.get(best or "", 0.0) > _TIE
        case Tagging(), Tagging():
            found, wanted = (
                [(one.label, one.start, one.end) for one in tagging.spans]
                for tagging in (answer, golden)
            )
            return found != wanted
        case (Embedding(), Embedding()) | (Inference(), Inference()):
            return False
        case _:
            return deviation(answer, golden) >= 1.0


def total_deviation(task: Task, deviations: Sequence[float]) -> float:
    """Return the deviation of a version over all its goldens, at least one.

    The share of texts that differ for translate and generate, else the largest deviation.
    """
    if task in (Task.TRANSLATE, Task.GENERATE):
        return sum(deviations) / len(deviations)
    return max(deviations)


def _of_labels(answer: Classification, golden: Classification) -> float:
    got, wanted = _numbered(answer), _numbered(golden)
    if got.keys() != wanted.keys():
        return math.inf
    return max((_difference(got[name], score) for name, score in wanted.items()), default=0.0)


def _numbered(answer: Classification) -> Mapping[tuple[str, int], float]:
    """Return scores by name and, as names may repeat, by how often it came before."""
    seen: Counter[str] = Counter()
    scores = {}
    for label in answer.labels:
        scores[label.name, seen[label.name]] = label.score
        seen[label.name] += 1
    return scores


def _of_spans(found: Sequence[TaggedSpan], golden: Sequence[TaggedSpan]) -> float:
    got, wanted = (
        {(one.label, one.start, one.end): one.score for one in spans} for spans in (found, golden)
    )
    places = got.keys() | wanted.keys()
    return max((_difference(got.get(at, 0.0), wanted.get(at, 0.0)) for at in places), default=0.0)


def _of_vectors(answer: Embedding, golden: Embedding) -> float:
    if answer.indices is not None and golden.indices is not None:
        got, wanted = (
            dict(zip(one.indices.tolist(), one.vector.tolist(), strict=True))
            for one in (answer, golden)
            if one.indices is not None
        )
        places = got.keys() | wanted.keys()
        return max(
            (_difference(got.get(at, 0.0), wanted.get(at, 0.0)) for at in places), default=0.0
        )
    if answer.vector.shape != golden.vector.shape:
        return math.inf
    largest = float(np.abs(answer.vector - golden.vector).max(initial=0.0))
    return math.inf if math.isnan(largest) else largest


def _of_tensors(answer: Inference, golden: Inference) -> float:
    if answer.outputs.keys() != golden.outputs.keys():
        return math.inf
    return max((_of_arrays(answer.outputs[name], one) for name, one in golden.outputs.items()))


def _of_arrays(got: NDArray[Any], wanted: NDArray[Any]) -> float:
    if got.shape != wanted.shape or got.dtype.hasobject != wanted.dtype.hasobject:
        return math.inf
    if got.dtype.hasobject:
        return float((got != wanted).any())
    largest = float(np.abs(got.astype(np.float64) - wanted.astype(np.float64)).max(initial=0.0))
    return math.inf if math.isnan(largest) else largest


def _of_objects(answer: Detections, golden: Detections) -> float:
    wanted = [one for one in golden.objects if one.score >= CERTAIN_SCORE]
    found, shape = answer.objects, (answer.height, answer.width)
    overlaps = iou_matrix(_boxes(wanted), _boxes(found))
    # Objects of one label overlap less than the NMS lets them, so no two golden objects can
    # claim the same partner at an overlap of 0.9.
    return max(
        (_of_object(found, one, row, shape) for one, row in zip(wanted, overlaps, strict=True)),
        default=0.0,
    )


def _of_object(
    found: Sequence[DetectedObject],
    golden: DetectedObject,
    overlaps: Sequence[float],
    shape: tuple[int, int],
) -> float:
    partners = [
        _difference(one.score, golden.score)
        for one, overlap in zip(found, overlaps, strict=True)
        if one.label == golden.label and overlap >= MATCHING_IOU and _matches(one, golden, shape)
    ]
    return min(partners, default=1.0)


def _matches(one: DetectedObject, golden: DetectedObject, shape: tuple[int, int]) -> bool:
    """Compare what the golden object has besides its box."""
    return (
        (golden.mask is None or _covers(one.mask, golden.mask, shape))
        and (golden.rotated_box is None or _is_turned(one.rotated_box, golden.rotated_box))
        and (golden.keypoints is None or _has_points(one, golden))
    )


def _covers(mask: Mask | None, golden: Mask, shape: tuple[int, int]) -> bool:
    if mask is None or mask.rle is None or golden.rle is None:
        return mask == golden
    if mask.rle == golden.rle:
        return True
    try:
        first, second = (mask_of(text.encode(), shape) for text in (mask.rle, golden.rle))
    except ValueError:  # of an image of another size
        return False
    return bool((first & second).sum() >= MATCHING_IOU * (first | second).sum())


def _is_turned(box: Sequence[float] | None, golden: Sequence[float]) -> bool:
    if box is None:
        return False
    boxes = np.array([box, golden], np.float32)
    return bool(rotated_overlaps(boxes[:1], boxes[1:])[0, 0] >= MATCHING_IOU)


def _has_points(one: DetectedObject, golden: DetectedObject) -> bool:
    points, wanted = one.keypoints or (), golden.keypoints or ()
    if [len(point) for point in points] != [len(point) for point in wanted]:
        return False
    left, top, right, bottom = golden.box
    allowed = max(1.0, _NEAR_POINT * math.hypot(right - left, bottom - top))
    pairs = zip(points, wanted, strict=True)
    return all(math.dist(a[:_PLACE], b[:_PLACE]) <= allowed for a, b in pairs)


def _boxes(objects: Sequence[DetectedObject]) -> Boxes:
    return np.array([one.box for one in objects], np.float32).reshape(-1, 4)


def _difference(one: float, other: float) -> float:
    # A NaN would win or lose every comparison by its place in the list.
    difference = abs(one - other)
    return math.inf if math.isnan(difference) else difference
