"""How well labelled spans are found."""

from pathlib import Path
from typing import Any

import pytest

from models.evaluate.errors import EvaluationError
from models.evaluate.rows import Row
from models.evaluate.tagging import tag_questions
from service.tasks import TaggedSpan, Tagging, TagItem
from tests.sentences import sentence


def row(**values: Any) -> Row:
    return Row(values, Path("names.jsonl"), 3)


def span(label: str, start: int, end: int) -> TaggedSpan:
    return TaggedSpan(label, 0.9, start, end, "")


def test_a_span_is_right_with_its_label_and_both_ends() -> None:
    truth = [{"label": "PER", "start": 0, "end": 3}, {"label": "LOC", "start": 13, "end": 21}]
    items, judge = tag_questions([row(text="Ann moved to New York.", spans=truth)])
    assert items == [TagItem("Ann moved to New York.")]
    spans = (span("PER", 0, 3), span("LOC", 13, 16), span("LOC", 17, 21))
    findings = judge([Tagging(spans)])
    found = {one.name: one.value for one in findings.measures}
    assert found == {
        "F1": pytest.approx(2 / 5),
        "precision": pytest.approx(1 / 3),
        "recall": pytest.approx(1 / 2),
        "macro F1": pytest.approx(1 / 2),
    }
    assert findings.by_label["PER"]["f1-score"] == 1
    assert findings.by_label["LOC"] == {
        "precision": 0,
        "recall": 0,
        "f1-score": 0,
        "support": 1,
    }


@pytest.mark.parametrize(
    "spans", [None, "PER", [{"label": "PER"}], [5], [{"label": 1, "start": 0, "end": 2}]]
)
def test_what_are_no_spans_is_refused_with_its_line(spans: Any) -> None:
    with pytest.raises(EvaluationError, check=sentence):
        tag_questions([row(text="a", spans=spans)])
