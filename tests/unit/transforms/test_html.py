"""HTML: what is not translated stays as it is, and markup moves with its words."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from itertools import count

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from turbohtml import parse, tokenize

from service.transforms.language.html import Page, Run, parse_html
from service.transforms.language.html_segments import Sentence, sentences_of


def whole(run: Run) -> tuple[int, int]:
    return len(run.text) - len(run.text.lstrip()), len(run.text.rstrip())


def sentences(page: Page) -> list[Sentence]:
    return [one for run in page.runs for one in sentences_of(page, run, [whole(run)])]


def replaced(source: str, translate: Callable[[str], str]) -> str:
    """The source with every text translated, as HtmlDocuments does it."""
    page = parse_html(source)
    written, at = "", 0
    for sentence in sentences(page):
        parts = {node: translate(text) for node, text in sentence.parts().items()}
        text = sentence.rendered("" if sentence.is_cut else translate(sentence.text), parts)
        if text is None:
            text = "".join(
                page.escaped(translate(piece)) if is_text else piece
                for piece, is_text in sentence.pieces()
            )
        written += source[at : sentence.source_start] + text
        at = sentence.source_end
    return written + source[at:]


def with_table(table: Mapping[str, str]) -> Callable[[str], str]:
    return lambda text: table[text.strip()]


@pytest.mark.parametrize(
    ("source", "table", "expected"),
    [
        (
            '<p class="a">他在<b>图书馆</b>看书。</p>',
            {"他在图书馆看书。": "He reads in the library.", "图书馆": "The library."},
            '<p class="a">He reads in <b>the library</b>.</p>',
        ),
        (  # elements change places with their words
            "<a href=x>我的</a><i>书</i>红",
            {"我的书红": "The book of mine is red", "我的": "of mine", "书": "book"},
            "The <i>book</i> <a href=x>of mine</a> is red",
        ),
        (  # an element around it all
            "<b><i>汤姆</i></b>",
            {"汤姆": "Tom & Mary"},
            "<b><i>Tom &amp; Mary</i></b>",
        ),
        (  # a form of the word
            "<em>图书馆</em>很多",
            {"图书馆很多": "There are many libraries", "图书馆": "library"},
            "There are many <em>libraries</em>",
        ),
        (  # no word is like it: the words that stand where it stood
            "我喜欢喝<a>茶</a>",
            {"我喜欢喝茶": "I like tea", "茶": "teacher"},
            "I like <a>tea</a>",
        ),
        (  # code is found again
            "请用<code>a &lt; b</code>吧",
            {"请用a < b吧": "use a < b please"},
            "use <code>a &lt; b</code> please",
        ),
        (  # the translation lost the code: piece by piece
            "请用<code>f()</code>吧",
            {"请用f()吧": "please use it", "请用": "use", "吧": "please"},
            "use<code>f()</code>please",
        ),
        (  # nested elements
            "<a>大<b>树</b></a>高",
            {"大树高": "The big tree is high", "大树": "big tree", "树": "tree"},
            "The <a>big <b>tree</b></a> is high",
        ),
        (  # an image next to an element, and one at the end
            "树<b>高</b><img src=x>很<wbr>",
            {"树高很": "The tree is very high", "高": "high"},
            "The tree is very <b>high</b><img src=x><wbr>",
        ),
        ("&copy; 树", {"© 树": "© tree"}, "&copy; tree"),
        ("树&eacute;", {"树é": "é tree é"}, "&eacute; tree &eacute;"),
        ("a<br>b<hr>c", {"a": "1", "b": "2", "c": "3"}, "1<br>2<hr>3"),
        (
            "<ul>\n <li>a\n <li>b</ul>",
            {"a": "1", "b": "2"},
            "<ul>\n <li>1\n <li>2</ul>",
        ),
        ('a<p translate="no">b<p>c', {"a": "1", "c": "3"}, '1<p translate="no">b<p>3'),
        (
            '<p translate="no">b <i translate="yes">c</i> d</p>',
            {"c": "3"},
            '<p translate="no">b <i translate="yes">3</i> d</p>',
        ),
        ("a\r\n  b<b>c", {"a bc": "x", "c": "x"}, "<b>x"),
        ("<td>a</td><tr>", {"a": "1"}, "<td>1</td><tr>"),
        ("a</b> <i>b", {"a b": "1 2", "b": "2"}, "1</b> <i>2"),
    ],
)
def test_markup_moves_with_its_words(source: str, table: dict[str, str], expected: str) -> None:
    assert replaced(source, with_table(table)) == expected


@pytest.mark.parametrize(
    "source",
    [
        "<script>if (a < b) { '</p>' }</script>",
        "<pre>\n  a  b </pre>",
        "<style>a { b: c }</style><!-- a comment <p> -->",
        "<textarea>a <b></textarea>",
        "<svg><text>a</text></svg>",
        "<code>a</code>",
        '<p class="notranslate">a</p>',
        "<p>12 &amp; 3</p>",
        "<img alt='a'>",
        "<!DOCTYPE html>\r\n<html lang=en>",
        "<a href='a",
        "<?php a ?>",
        "",
    ],
)
def test_what_is_not_translated_is_copied(source: str) -> None:
    def refuse(text: str) -> str:
        raise AssertionError(text)

    assert replaced(source, refuse) == source


_TAGS = ("b", "i", "a", "p", "div", "li", "ul", "br", "code", "td", "tr", "table", "span", "pre")
_PIECES = st.one_of(
    st.sampled_from(["tree ", " high ", " ", "\n", " Tom ", "&amp;", "&copy;", "&nbsp;", "<", ">"]),
    st.sampled_from(["<!-- x -->", "<img src=x>", "</>", "\r\n", ". ", "&#0;", '"']),
    st.builds("<{}>".format, st.sampled_from(_TAGS)),
    st.builds("</{}>".format, st.sampled_from(_TAGS)),
    st.sampled_from(["<i translate=no>", "<p translate=no>", "<b translate=yes>", "<x-a>", "<a "]),
)


def numbered(pieces: list[str]) -> str:
    """The pieces as a document without a word that occurs twice."""
    numbers = count()
    return re.sub(r"tree|high|Tom", lambda word: f"{word[0]}{next(numbers)}", "".join(pieces))


_DOCUMENTS = st.lists(_PIECES, max_size=30).map(numbered)


def markup(source: str) -> Counter[str]:
    return Counter(
        token.source or ""
        for token in tokenize(source, capture_source=True, resolve_references=False)
        if token.source and not token.source.startswith("&")
    )


@settings(max_examples=150)
@given(_DOCUMENTS)
def test_a_text_that_stays_gives_the_same_document(source: str) -> None:
    def text_of(html: str) -> str:
        return re.sub(r"\s+|&nbsp;|<!--.*?-->|<img[^>]*>", "", parse(html).serialize())

    written = replaced(source, lambda text: text)
    assert markup(written) == markup(source)
    assert text_of(written) == text_of(source)


@settings(max_examples=150)
@given(_DOCUMENTS)
def test_no_markup_is_lost_or_made(source: str) -> None:
    written = replaced(source, lambda text: " ".join(reversed(text.split())))
    assert markup(written) == markup(source)


def test_what_is_nested_deeply_is_read_in_one_pass() -> None:
    for source in ("<b>" * 20_000 + "tree", "<p>tree" * 10_000, "<b>" * 10_000 + "</i>" * 10_000):
        assert replaced(source, lambda text: text) == source


def test_a_sentence_with_very_much_markup_is_translated_in_pieces() -> None:
    source = "<b>tree</b>" * 200
    assert replaced(source, str.upper) == "<b>TREE</b>" * 200
