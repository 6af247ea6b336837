"""Addresses, numbers and words are found where they stand whole, and nowhere else."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.transforms.language.literals import any_of, is_number, literals


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("请看https://example.org/a?b=1。", ["https://example.org/a?b=1"]),
        ("See http://a.io/x, www.b.org/, ftp://c.de.", ["http://a.io/x", "www.b.org/", "ftp://c.de"]),
        ("(https://a.io/x)", ["https://a.io/x"]),
        ("写信给a.b+c@d-e.co.uk吧", ["a.b+c@d-e.co.uk"]),
        ("他有12,500本书，占3.5%，在2024-12-31 10:30。", ["12,500", "3.5%", "2024-12-31", "10:30"]),
        ("42 and 42.", ["42"]),
        ("abc1 1abc v2", []),
        ("https://a.io/2024 in 2025", ["https://a.io/2024", "2025"]),
    ],
)  # fmt: skip
def test_literals_of_all_kinds(text: str, found: list[str]) -> None:
    assert literals(text, ("urls", "emails", "numbers")) == found


def test_only_the_kinds_asked_for() -> None:
    text = "https://a.io/2024 me@b.org 7"
    assert literals(text, ("numbers",)) == ["7"]
    assert literals(text, ("emails", "urls")) == ["https://a.io/2024", "me@b.org"]
    assert literals(text, ()) == []


def test_a_word_is_found_where_it_stands_whole() -> None:
    def count(word: str, text: str) -> int:
        return len(any_of([word]).findall(text))

    assert count("Tom", "Tom, Tom's Tomorrow aTom tom 汤Tom姆") == 3
    assert count("42", "42 420 4.42 42.5 42. 42,7 x42 1,42") == 2
    assert count("汤姆", "我叫汤姆。汤姆森") == 2
    assert count("C++", "C++ C+++ xC++") == 2


def test_of_words_that_begin_alike_the_longest_is_found() -> None:
    assert any_of(["a", "a b", "b"]).findall("a b a") == ["a b", "a"]
    assert any_of([]).findall("anything") == []


def test_a_number_is_nothing_else() -> None:
    assert all(map(is_number, ("7", "12,500", "3.5%", "10:30")))
    assert not any(map(is_number, ("", "seven", "7 8", "v7", "https://7")))


@given(st.text(max_size=60), st.lists(st.text(min_size=1, max_size=8), max_size=4))
def test_any_text_and_any_words_are_searched(text: str, words: list[str]) -> None:
    for literal in literals(text, ("urls", "emails", "numbers")):
        assert literal in text
    for match in any_of(words).finditer(text):
        assert match.group() in words
