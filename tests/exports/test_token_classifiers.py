"""Token classifiers of every kind of tokenizer, served, against transformers' pipeline."""

import asyncio
from pathlib import Path
from typing import Any, get_args

import pytest

pytest.importorskip("optimum.exporters.onnx", reason="needs the extra train")

import transformers

from service.tasks import Aggregate, Tagging, TagItem
from tests.exports.exporting import export_directory, seeded
from tests.exports.serving import answers
from tests.exports.test_text_classifiers import ARCHITECTURES
from tests.exports.text_files import TEXTS, tokenizer_for

pytestmark = [pytest.mark.looptime(False), pytest.mark.filterwarnings("ignore")]

LABELS = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "MISC"]
MORE_TEXTS = [
    "ab\u0301e\u0301 n\u0303 ﬁne ﷺ ½",  # combining marks, and what normalisation expands
    "Tom, Ann-Marie and 汤姆 met 👩‍👩‍👧 in New York: it's 5 o'clock...",
    "one\u00a0two\u200bthree",
]
WHOLE = [text for text in TEXTS + MORE_TEXTS if "\ud800" not in text]
STRIDE = 9


def exported(name: str, folder: Path) -> tuple[Path, Any]:
    """Export a small model; return the directory and transformers' pipeline."""
    kind, sizes = ARCHITECTURES[name]
    tokenizer = tokenizer_for(kind, folder / "vocabulary")
    config = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer),
        **{"pad_token_id": tokenizer.pad_token_id, **sizes},
        id2label=dict(enumerate(LABELS)),
        label2id={},
    )
    config._attn_implementation = "eager"
    model = seeded(getattr(transformers, f"{name}ForTokenClassification"), config)
    made = export_directory(model, tokenizer, folder / "model", "token-classification")
    tokenizer.model_max_length = 64
    return made, transformers.pipeline("token-classification", model=model, tokenizer=tokenizer)


def same(found: Tagging, expected: list[dict[str, Any]]) -> None:
    key = "entity_group" if expected and "entity_group" in expected[0] else "entity"
    assert [(one.label, one.start, one.end) for one in found.spans] == [
        (one[key], one["start"], one["end"]) for one in expected
    ]
    assert [one.score for one in found.spans] == pytest.approx(
        [one["score"] for one in expected], abs=1e-4
    )


@pytest.mark.parametrize("name", ["Bert", "Roberta", "XLMRoberta", "DebertaV2"])
def test_spans_are_those_of_the_pipeline(name: str, tmp_path: Path) -> None:
    folder, pipeline = exported(name, tmp_path)
    asked = [
        (TagItem(text, way, STRIDE, window=0 if way == "none" else None), text)
        for text in WHOLE
        for way in get_args(Aggregate)
    ]
    alone, together = asyncio.run(answers(folder, [item for item, _ in asked]))
    assert max(answer.windows for answer in alone) > 3
    for (item, text), one, other in zip(asked, alone, together, strict=True):
        # The pipeline has no windows without aggregation: it cuts the text.
        more = {} if item.aggregate == "none" else {"stride": STRIDE}
        expected = pipeline(text, aggregation_strategy=item.aggregate, **more)
        same(one, expected)
        same(other, expected)
        assert all(span.text == text[span.start : span.end] for span in one.spans)


def test_labels_that_are_not_ignored_are_returned(tmp_path: Path) -> None:
    folder, pipeline = exported("Bert", tmp_path)
    text = " ".join(WHOLE[:4])
    everything = pipeline(text, aggregation_strategy="simple", ignore_labels=[])
    one, *others = sorted({span["entity_group"] for span in everything})
    assert others
    for ignored in ((), (one,)):
        (found,), _ = asyncio.run(answers(folder, [TagItem(text, "simple", ignored=ignored)]))
        same(found, pipeline(text, aggregation_strategy="simple", ignore_labels=list(ignored)))
