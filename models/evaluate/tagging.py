"""How many labelled spans of texts a token classifier finds, and how many of its own are right."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from models.evaluate.errors import EvaluationError
from models.evaluate.findings import Findings
from models.evaluate.measures import Measure
from models.evaluate.rows import Row, Table
from service.tasks import Answer, Tagging, TagItem

_Span: TypeAlias = tuple[str, int, int]
"""Label, start and end."""


def tag_questions(rows: Table) -> tuple[Sequence[TagItem], Callable[[Sequence[Answer]], Findings]]:
    """Return the texts of a data file, and what judges the answers.

    A span counts as found if label, start and end are right.

    Raises:
        EvaluationError: a row is not of this task.
    """
    truth = [_spans(row) for row in rows]

    def judge(answers: Sequence[Answer]) -> Findings:
        found = [
            {(one.label, one.start, one.end) for one in answer.spans}
            for answer in answers
            if isinstance(answer, Tagging)
        ]
        true = Counter(label for spans in truth for label, _, _ in spans)
        given = Counter(label for spans in found for label, _, _ in spans)
        right = Counter(
            label for a, b in zip(truth, found, strict=True) for label, _, _ in set(a) & b
        )
        by_label = {label: _scores(right[label], given[label], true[label]) for label in true}
        micro = _scores(right.total(), given.total(), true.total())
        macro = sum(one["f1-score"] for one in by_label.values()) / max(len(by_label), 1)
        return Findings(
            [
                Measure("F1", micro["f1-score"]),
                Measure("precision", micro["precision"]),
                Measure("recall", micro["recall"]),
                Measure("macro F1", macro),
            ],
            by_label,
        )

    return [TagItem(row.text("text")) for row in rows], judge


def _scores(right: int, given: int, true: int) -> dict[str, float]:
    return {
        "precision": right / given if given else 0.0,
        "recall": right / true if true else 0.0,
        "f1-score": 2 * right / (given + true) if given + true else 0.0,
        "support": true,
    }


def _spans(row: Row) -> list[_Span]:
    listed = row.values.get("spans")
    if not isinstance(listed, list):
        raise EvaluationError(f"{row.where} has no list 'spans'")
    return [_span(row, one) for one in listed]


def _span(row: Row, value: Any) -> _Span:
    try:
        label, start, end = value["label"], value["start"], value["end"]
    except (KeyError, TypeError):
        raise EvaluationError(f"{row.where}: a span needs label, start and end") from None
    if not isinstance(label, str) or not (type(start) is int and type(end) is int):
        raise EvaluationError(f"{row.where}: a label is a text, start and end are whole numbers")
    return label, start, end
