"""Texts in pieces: nothing is lost, everything fits, no reader's character is torn."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import regex
import sentencex
from hypothesis import example, given
from hypothesis import strategies as st

from service.transforms.language import segmentation
from service.transforms.language.segmentation import Document, Splitting, needs_splitting, split

TO_ENGLISH, TO_CHINESE = Splitting("zh", "en"), Splitting("en", "zh")

PARTS = st.sampled_from(
    [
        *"你好，我喜欢喝茶。他说：“走吧！”「そうですか。」と言った。ペン、」』）…？",
        *"Mr. Smith paid $3.50, e.g. in the U.S.; why? ok!",
        *" \t\u3000\u00a0\n\n\n",
        *("\r\n", "\u2028", "\x85", "\v", "\r", "----", "* * *", "\u200b", "\ufeff"),
        *(
            "👍",
            "👨‍👩‍👧",
            "🇯🇵",
            "👍🏽",
            "e\u0301",
            " \u0301",
            "\u0600 ",
            "ﷺ",
            "𠮷野家",
            "각",
            "ก็",
            "नी",
        ),
    ]
)
TEXTS = st.lists(PARTS, max_size=80).map("".join)


def at_most(most: int) -> Callable[[str], bool]:
    """A model with an input limit in bytes; most characters here have several."""
    return lambda text: len(text.encode()) <= most


def texts(document: Document) -> list[str]:
    return [segment.text for segment in document.segments]


@given(TEXTS, st.integers(8, 60), st.booleans())
def test_pieces_joined_are_the_text_again(text: str, most: int, in_sentences: bool) -> None:
    document = split(text, Splitting("zh", "ja", in_sentences), at_most(most))
    assert document.joined(texts(document)) == text
    assert all(text[s.start : s.end] == s.text for s in document.segments)
    assert all(a.end <= b.start for a, b in pairwise(document.segments))


@given(TEXTS, st.integers(8, 60))
def test_a_language_with_spaces_gets_one_only_where_nothing_separates(text: str, most: int) -> None:
    document = split(text, TO_ENGLISH, at_most(most))
    gaps = [text[a.end : b.start] for a, b in pairwise(document.segments)]
    assert [segment.before for segment in document.segments[1:]] == [gap or " " for gap in gaps]


@given(TEXTS, st.integers(8, 60))
@example("你你M\u0600 ", 9)  # the space belongs to the mark before it
def test_every_piece_fits_unless_it_is_a_single_character_to_a_reader(text: str, most: int) -> None:
    fits = at_most(most)
    for segment in split(text, TO_ENGLISH, fits).segments:
        assert fits(segment.text) or regex.fullmatch(r"\X", segment.text)


@given(TEXTS, st.integers(8, 60))
def test_no_cut_tears_what_a_reader_sees_as_one_character(text: str, most: int) -> None:
    whole = {0, *(found.end() for found in regex.finditer(r"\X", text))}
    for segment in split(text, TO_ENGLISH, at_most(most)).segments:
        assert {segment.start, segment.end} <= whole


@given(TEXTS, st.integers(8, 60))
def test_pieces_have_letters_no_line_ends_and_no_space_around_them(text: str, most: int) -> None:
    for segment in split(text, TO_ENGLISH, at_most(most)).segments:
        assert regex.search(r"\p{L}", segment.text)
        assert len(segment.text.splitlines()) == 1
        assert segment.text.strip() in segment.text
        assert segment.text == segment.text.strip() or regex.search(r"\s\p{M}|\u0600\s", text)


def test_lines_that_fit_are_pieces_and_what_is_between_stays() -> None:
    document = split("  你好。再见。\r\n\r\n\n\t- 好，\n-----\n3.14\n", TO_ENGLISH, at_most(100))
    assert texts(document) == ["你好。再见。", "好，"]
    assert document.joined(["A.", "B"]) == "  A.\r\n\r\n\n\t- B\n-----\n3.14\n"


@pytest.mark.parametrize(
    ("line", "piece"),
    [
        ("# 标题", "标题"),
        ("> - (2) 好", "好"),
        ("12. Twelve", "Twelve"),
        ("•\u3000好", "好"),
        ("-好", "-好"),
        ("3.5 is a number", "3.5 is a number"),
        ("2024. What a year", "2024. What a year"),
        ("- \u0301a", "- \u0301a"),
    ],
)
def test_the_mark_that_a_line_begins_with_is_kept_and_not_translated(line: str, piece: str) -> None:
    document = split(f"{line}\n", TO_ENGLISH, at_most(100))
    assert texts(document) == [piece]
    assert document.joined([piece]) == f"{line}\n"


def test_a_thousand_marks_in_a_line_are_marks() -> None:
    document = split("> " * 5_000 + "好\n", TO_ENGLISH, at_most(10))
    assert texts(document) == ["好"]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        pytest.param(
            "他说：“我喜欢茶。”然后走了。你呢？好！",
            ["他说：“我喜欢茶。”", "然后走了。", "你呢？", "好！"],
            id="Chinese",
        ),
        pytest.param(
            "「そうですか。」と言った。これは文です。はい！",
            ["「そうですか。」と言った。", "これは文です。", "はい！"],
            id="Japanese, with a quotation that goes on",
        ),
        pytest.param(
            "Mr. Smith paid $3.50 in Washington, D.C. He left. Why?!",
            ["Mr. Smith paid $3.50 in Washington, D.C.", "He left.", "Why?!"],
            id="English, with abbreviations",
        ),
        pytest.param(
            "你好。Hello world. これはペンです。",
            ["你好。", "Hello world.", "これはペンです。"],
            id="mixed",
        ),
    ],
)
@pytest.mark.parametrize("language", ["zh", "en"])
def test_a_line_that_does_not_fit_is_cut_into_sentences(
    language: str, text: str, sentences: list[str]
) -> None:
    too_little = at_most(len(text.encode()) - 1)
    assert texts(split(text, Splitting(language, "en"), too_little)) == sentences
    assert texts(split(text, Splitting(language, "en", True), at_most(1000))) == sentences


@pytest.mark.parametrize(
    ("text", "most", "pieces"),
    [
        pytest.param(
            "天气很好，我们去公园，好吗", 23, ["天气很好，", "我们去公园，", "好吗"], id="clauses"
        ),
        pytest.param(
            "天气很好，我们去公园，好吗", 36, ["天气很好，我们去公园，", "好吗"], id="packed"
        ),
        pytest.param(
            "for 1,000 people, at 12:30", 20, ["for 1,000 people,", "at 12:30"], id="numbers"
        ),
        pytest.param("one two three four", 9, ["one two", "three", "four"], id="words"),
        pytest.param("字字字字字", 6, ["字字", "字字", "字"], id="characters"),
        pytest.param("a👨‍👩‍👧b", 8, ["a", "b"], id="one that does not fit, and has no letter"),
    ],
)
def test_a_sentence_that_does_not_fit_is_cut_where_it_hurts_least(
    text: str, most: int, pieces: list[str]
) -> None:
    assert texts(split(text, TO_CHINESE, at_most(most))) == pieces


def test_a_single_line_that_fits_needs_no_splitting() -> None:
    assert not needs_splitting(" 你好。再见。 ", TO_ENGLISH, at_most(100))
    assert needs_splitting("你好。\n", TO_ENGLISH, at_most(100))
    assert needs_splitting("你好。再见。", TO_ENGLISH, at_most(9))
    assert needs_splitting("你好。", Splitting("zh", "en", True), at_most(100))


@pytest.mark.parametrize(
    "text",
    [
        "“天气很好。" * 4_000,
        "天" * 20_000,
        "a" * 20_000,
        "好。" * 10_000,
        "x. " * 7_000,
        "👨‍👩‍👧" * 3_000 + "字",
    ],
    ids=["quotes that never close", "no mark", "one word", "short sentences", "letters", "emoji"],
)
def test_long_lines_take_no_more_than_their_length_explains(text: str) -> None:
    asked = 0

    def fits(part: str) -> bool:
        nonlocal asked
        asked += len(part)
        return len(part.encode()) <= 300

    document = split(text, Splitting("zh", "ja"), fits)
    assert document.joined(texts(document)) == text
    assert asked < 40 * len(text)


@pytest.mark.parametrize("fault", ["panics", "loses", "is cancelled"])
def test_a_fault_of_the_segmenter_leaves_the_block_whole(
    fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class PanicException(BaseException):
        pass

    def segment(language: str, text: str) -> list[str]:
        match fault:
            case "panics":
                raise PanicException
            case "loses":
                return [text[:3]]
            case _:
                raise KeyboardInterrupt

    monkeypatch.setattr(segmentation.sentencex, "segment", segment)
    if fault == "is cancelled":
        with pytest.raises(KeyboardInterrupt):
            split("你好。再见。", TO_ENGLISH, at_most(12))
    else:
        assert texts(split("你好。再见。", TO_ENGLISH, at_most(12))) == ["你好。再", "见。"]


def test_the_segmenter_is_the_one_that_was_looked_at() -> None:
    """It answers for any code of a language, and knows English abbreviations in Chinese texts."""
    for code in ("zh", "ja", "en", "xx", ""):
        assert "".join(sentencex.segment(code, "好。Hi.")) == "好。Hi."
