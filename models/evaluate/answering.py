"""The quality of any model's answers to a data file, by its task, asked through the service."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import classification_report, confusion_matrix
from sklearn.preprocessing import MultiLabelBinarizer

from models.evaluate.coco import coco_scores, coco_table, with_masks
from models.evaluate.errors import EvaluationError
from models.evaluate.findings import Confusion, Findings
from models.evaluate.measures import Measure
from models.evaluate.rows import Labelled, generated, labelled, read_rows, sought, translated
from models.evaluate.scores import dense_rows, recall_at
from models.evaluate.served import Served
from models.evaluate.tagging import tag_questions
from models.evaluate.translation import (
    aligned_references,
    generation_measures,
    translation_measures,
)
from service.errors import ServiceError
from service.requests.zero_shot import GivenLabels
from service.tasks import (
    Answer,
    AnyItem,
    Classification,
    Detections,
    DetectItem,
    Embedding,
    EmbedItem,
    Generation,
    Image,
    Task,
    Translation,
    VectorForm,
)

DEPTHS = (1, 5, 10)
HOLDS = 0.5
"""The score from which on a label holds, where several may."""


_LOWEST_SCORE = 0.001
"""The measures of COCO look at every threshold, so nearly everything found is asked for."""
_MOST_BOXES = 100


@dataclass(frozen=True, slots=True)
class DataFile:
    """What to measure with."""

    path: Path
    images: Path | None = None
    """Folder of the images that a COCO file names; None means the folder of that file."""
    has_choices: bool = False
    """Whether to classify by the labels that occur in the file (zero-shot)."""


@dataclass(frozen=True, slots=True)
class Questions:
    """The items of a data file, and what makes findings of the answers to them."""

    items: Sequence[AnyItem]
    judge: Callable[[Sequence[Answer]], Findings]
    labels: GivenLabels | None = None
    """What to choose among (zero-shot)."""

    async def served_by(self, served: Served) -> Served:
        """Return what the items are asked of. Raises EvaluationError."""
        if self.labels is None:
            return served
        return await served.by_labels(self.labels, self.items[0].modality)


async def measured(served: Served, questions: Questions) -> Findings:
    """Ask every item and judge the answers.

    Raises:
        EvaluationError: an item cannot be answered, or answers and data do not fit each other.
    """
    return questions.judge(await served.answers(questions.items, "items"))


def questions_of(task: Task, data: DataFile) -> Questions:
    """Read a data file as the task wants it.

    Raises:
        EvaluationError: it cannot be read, or is not of this task.
    """
    return _classify(data) if data.has_choices else _QUESTIONS[task](data)


def _classify(data: DataFile) -> Questions:
    rows = labelled(read_rows(data.path))
    several = any("labels" in one.row.values for one in rows)

    def judge(answers: Sequence[Answer]) -> Findings:
        given = [answer for answer in answers if isinstance(answer, Classification)]
        _refuse_strange_labels(rows, {label.name for label in given[0].labels})
        return _of_several(rows, given) if several else _of_one(rows, given)

    return Questions([one.item for one in rows], judge, _choices(rows, several, data))


def _choices(rows: Sequence[Labelled], several: bool, data: DataFile) -> GivenLabels | None:
    if not data.has_choices:
        return None
    try:
        return GivenLabels(
            tuple(sorted({label for one in rows for label in one.labels})),
            multi_label=several or None,
        )
    except ServiceError as error:
        raise EvaluationError(f"{data.path.name}: {error}") from None


def _refuse_strange_labels(rows: Sequence[Labelled], known: set[str]) -> None:
    for one in rows:
        if strange := sorted(set(one.labels) - known):
            raise EvaluationError(
                f"{one.row.where}: {strange[0]!r} is no label of the model, which knows "
                f"{', '.join(sorted(known)[:20])}"
            )


def _of_one(rows: Sequence[Labelled], answers: Sequence[Classification]) -> Findings:
    truth = [one.labels[0] for one in rows]
    best = [answer.labels[0].name for answer in answers]
    labels = sorted({*truth, *best})
    # Averages are over the labels that occur in the data, each counting the same.
    report = classification_report(
        truth, best, labels=sorted(set(truth)), output_dict=True, zero_division=0
    )
    accuracy = float(np.mean([a == b for a, b in zip(truth, best, strict=True)]))
    return Findings(
        [Measure("accuracy", accuracy), *_averages(report, "macro avg", "macro")],
        {name: report[name] for name in sorted(set(truth))},
        Confusion(labels, confusion_matrix(truth, best, labels=labels)),
    )


def _of_several(rows: Sequence[Labelled], answers: Sequence[Classification]) -> Findings:
    held = [{one.name for one in answer.labels if one.score >= HOLDS} for answer in answers]
    table = MultiLabelBinarizer(classes=sorted({one.name for one in answers[0].labels}))
    truth = table.fit_transform([one.labels for one in rows])
    given = table.transform(held)
    names = list(table.classes_)
    report = classification_report(
        truth, given, target_names=names, output_dict=True, zero_division=0
    )
    exact = float((truth == given).all(1).mean())
    return Findings(
        [
            *reversed(_averages(report, "micro avg", "micro")),  # F1 first
            *_averages(report, "macro avg", "macro"),
            Measure("share of items with all labels right", exact),
        ],
        {name: report[name] for name in names},
    )


def _averages(report: Mapping[str, Any], row: str, called: str) -> list[Measure]:
    keys = {"precision": "precision", "recall": "recall", "f1-score": "F1"}
    return [Measure(f"{called} {name}", float(report[row][key])) for key, name in keys.items()]


def _translate(data: DataFile) -> Questions:
    rows = translated(read_rows(data.path))
    references = aligned_references([list(one.references) for one in rows])

    def judge(answers: Sequence[Answer]) -> Findings:
        texts = [answer.text for answer in answers if isinstance(answer, Translation)]
        target = next(answer.target for answer in answers if isinstance(answer, Translation))
        return Findings(translation_measures(texts, references, target))

    return Questions([one.item for one in rows], judge)


def _generate(data: DataFile) -> Questions:
    rows = generated(read_rows(data.path))

    def judge(answers: Sequence[Answer]) -> Findings:
        texts = [one.text for one in answers if isinstance(one, Generation)]
        return Findings(generation_measures(texts, [one.references for one in rows]))

    return Questions([one.item for one in rows], judge)


def _embed(data: DataFile, form: VectorForm = "vector") -> Questions:
    pairs = sought(read_rows(data.path))
    places: dict[bytes, int] = {}
    own, gallery = [], list[EmbedItem]()
    for pair in pairs:
        place = places.setdefault(pair.found.fingerprint(), len(gallery))
        if place == len(gallery):
            gallery.append(pair.found)
        own.append(place)

    def judge(answers: Sequence[Answer]) -> Findings:
        given = [answer for answer in answers if isinstance(answer, Embedding)]
        vectors = (
            dense_rows(given) if form == "sparse" else _unit(np.stack([a.vector for a in given]))
        )
        queries, found = vectors[: len(pairs)], vectors[len(pairs) :]
        return Findings(
            [Measure(f"recall@{depth}", recall_at(queries, found, own, depth)) for depth in DEPTHS]
        )

    items = [*(pair.query for pair in pairs), *gallery]
    return Questions([replace(item, form=form) for item in items], judge)


def _unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    lengths = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return np.asarray(vectors / lengths, np.float32)


_OF_BOXES: Final = {"COCO mAP": 0, "mAP@0.5": 1, "mAP@0.75": 2, "mean recall, 100 boxes": 8}
_OF_MASKS: Final = {"COCO mAP of masks": 0, "mAP@0.5 of masks": 1}
"""Places in COCO's list of results."""


def _detect(data: DataFile) -> Questions:
    table = coco_table(data.path)
    folder = data.path.parent if data.images is None else data.images
    has_masks = all("segmentation" in one for one in table["annotations"])
    try:
        items = [
            DetectItem(
                Image((folder / one["file_name"]).read_bytes()),
                threshold=_LOWEST_SCORE,
                max_detections=_MOST_BOXES,
                masks=None if has_masks else "none",
            )
            for one in table["images"]
        ]
    except OSError as error:
        raise EvaluationError(f"{error.filename}: {error.strerror}") from None
    numbers = {one["name"]: one["id"] for one in table["categories"]}

    def judge(answers: Sequence[Answer]) -> Findings:
        found = [
            {
                "image_id": image["id"],
                "category_id": numbers[one.label],
                "bbox": [*one.box[:2], one.box[2] - one.box[0], one.box[3] - one.box[1]],
                "score": one.score,
            }
            for image, answer in zip(table["images"], answers, strict=True)
            if isinstance(answer, Detections)
            for one in answer.objects
            if one.label in numbers
        ]
        _refuse_other_labels(answers, numbers, data.path)
        stats = coco_scores(table, found, "bbox")
        measures = [Measure(name, stats[at]) for name, at in _OF_BOXES.items()]
        if has_masks and (masks := with_masks(table, answers, numbers)):
            stats = coco_scores(table, masks, "segm")
            measures += [Measure(name, stats[at]) for name, at in _OF_MASKS.items()]
        return Findings(measures)

    return Questions(items, judge)


def _refuse_other_labels(answers: Sequence[Answer], known: Collection[str], path: Path) -> None:
    given = {
        one.label for answer in answers if isinstance(answer, Detections) for one in answer.objects
    }
    if given and given.isdisjoint(known):
        raise EvaluationError(
            f"{path.name} has the categories {', '.join(sorted(known)[:20])}; the model finds "
            f"others: {', '.join(sorted(given)[:20])}"
        )


_QUESTIONS: Final[Mapping[Task, Callable[[DataFile], Questions]]] = {
    Task.CLASSIFY: _classify,
    Task.TAG: lambda data: Questions(*tag_questions(read_rows(data.path))),
    Task.TRANSLATE: _translate,
    Task.GENERATE: _generate,
    Task.EMBED: _embed,
    Task.SPARSE: partial(_embed, form="sparse"),
    Task.DETECT: _detect,
}
