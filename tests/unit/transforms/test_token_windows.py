"""Texts in overlapping windows of tokens."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

from service.errors import InvalidInputError
from service.tasks import TaggedSpan
from service.transforms.language.tagging import TagScheme, without_overlaps
from service.transforms.language.text import TextTokenizer
from service.transforms.language.token_windows import WindowTokenizer

WORDS = ["[UNK]", "[CLS]", "[SEP]", "one", "two", "three", "##s", "four"]


def tokenizer(cuts_the_end: bool = True) -> WindowTokenizer:
    """WordPiece, with a special token before and one after a text."""
    made = Tokenizer(models.WordPiece({w: n for n, w in enumerate(WORDS)}, unk_token="[UNK]"))
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.decoder = decoders.WordPiece()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B [SEP]",
        special_tokens=[("[CLS]", 1), ("[SEP]", 2)],
    )
    return WindowTokenizer.of(TextTokenizer(made, cuts_the_end))


def texts_of(text: str, windows: WindowTokenizer, length: int, stride: int) -> list[list[str]]:
    return [
        [text[a:b] for a, b in zip(one.starts[1:-1], one.ends[1:-1], strict=True)]
        for one in windows.windows(text, length, stride)
    ]


def test_windows_share_the_stride() -> None:
    text = "one two three four one"
    assert texts_of(text, tokenizer(), 5, 1) == [["one", "two", "three"], ["three", "four", "one"]]
    assert texts_of(text, tokenizer(), 5, 0) == [["one", "two", "three"], ["four", "one"]]
    assert len(texts_of(text, tokenizer(), 7, 4)) == 1
    cut = texts_of(text, tokenizer(cuts_the_end=False), 6, 2)
    assert cut == [["two", "three", "four", "one"], ["one", "two", "three"]]


def test_every_window_has_its_special_tokens_and_words_stay_known() -> None:
    first, second = tokenizer().windows("ones twos three", 5, 1)
    assert first.ids.tolist() == [1, 3, 6, 4, 2]
    assert second.ids.tolist() == [1, 4, 6, 5, 2]
    assert second.is_special.tolist() == [True, False, False, False, True]
    assert second.is_subword.tolist()[1:-1] == [False, True, False]


@pytest.mark.parametrize("text", ["", " \n"])
def test_nothing_to_read_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="empty"):
        tokenizer().windows(text, 8, 2)


@pytest.mark.parametrize("stride", [3, 100, -1])
def test_a_stride_must_leave_room(stride: int) -> None:
    with pytest.raises(InvalidInputError, match="stride"):
        tokenizer().windows("one two", 5, stride)


def test_a_token_that_begins_a_span_is_not_joined() -> None:
    scheme = TagScheme.of(["O", "B-X", "I-X", "E-Y"])
    (window,) = tokenizer().windows("one two three four", 8, 0)
    scores = np.eye(4, dtype=np.float32)[[0, 1, 2, 1, 3, 0]]
    spans = scheme.spans(scores, window, "simple")
    names = [scheme.kind_names[label] for label in spans.labels]
    assert names == ["X", "X", "Y"]
    assert list(zip(spans.starts, spans.ends, strict=True)) == [(0, 7), (8, 13), (14, 18)]


def test_of_overlapping_spans_the_longer_then_the_likelier_is_kept() -> None:
    def span(start: int, end: int, score: float) -> TaggedSpan:
        return TaggedSpan("X", score, start, end, "")

    kept = without_overlaps([span(5, 9, 0.5), span(0, 4, 0.9), span(5, 9, 0.6), span(3, 6, 0.1)])
    assert [(one.start, one.end, one.score) for one in kept] == [(0, 4, 0.9), (5, 9, 0.6)]
