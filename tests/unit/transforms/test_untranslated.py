"""What a translator does not have to read is found, and nothing else is."""

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.transforms.language.literals import (
    _MAY_BE_APART,
    _SET_APART,
    _compiled,
    emoji_of,
    has_words,
    literals,
    reduced,
)

NO_WORDS = [
    "2026-11-29",
    "29.11.2026 10:30",
    "2026-11-29T10:00:00Z",
    "20261129T100000+08:00",
    "¥1,299.00",
    "€ 5 – 7",
    "1234567890\n",
    "1/2 ½ ² ① %",
    "１２：３０",
    "٤٢",
    "25 ℃",
    "。",
    "?!…",
    "---\n***",
    "😀",
    "👨‍👩‍👧 ❤️ 🇩🇪 1️⃣",
    "\n",
    " \u3000\t",
    "\ufeff\u200b",
    "https://example.org/a?b=1 me@example.org",
]


@pytest.mark.parametrize("text", NO_WORDS)
def test_nothing_is_to_be_translated_in(text: str) -> None:
    assert not has_words(text)


@pytest.mark.parametrize(
    "text",
    ["五", "〇", "二〇二六年", "Ⅳ", "5kg", "A", "и", "か", "10 km", "T", "see https://a.org"],
)
def test_something_is_to_be_translated_in(text: str) -> None:
    assert has_words(text)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("我喜\u200b欢喝\ufeff茶。", "我喜欢喝茶。"),
        ("\ufeff今天天气很好。", "今天天气很好。"),
        ("Trans\u00adla\u2060tion\u200e", "Translation"),
        ("今\u200d天\u200c很好", "今天很好"),
        ("a\x07b\x9fc", "abc"),
        ("葛\U000e0100城市", "葛城市"),
    ],
)
def test_invisible_marks_are_left_out(text: str, seen: str) -> None:
    found = reduced(text)
    assert found is not None
    assert (found.text, found.restored("x", " ")) == (seen, "x")


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("plain", id="ASCII"),
        pytest.param("今天天气很好。", id="Chinese"),
        pytest.param("می\u200cخواهم", id="Persian non-joiner"),
        pytest.param("क्\u200dष", id="Devanagari joiner"),
        pytest.param("ភាសា\u200bខ្មែរ", id="Khmer word space"),
        pytest.param("a © b ™ c → d ± 5 № 3", id="signs"),
        pytest.param("one\ttwo", id="tab"),
        pytest.param("é e\u0301", id="accents"),
    ],
)
def test_what_readers_see_or_letters_need_stays(text: str) -> None:
    assert reduced(text) is None


@pytest.mark.parametrize(
    ("text", "seen", "translation", "restored"),
    [
        ("😀今天很好。", "今天很好。", "Today is fine.", "😀 Today is fine."),
        ("今天很好。👍🏽", "今天很好。", "Today is fine.", "Today is fine. 👍🏽"),
        ("今天很好😀。", "今天很好。", "Today is fine.", "Today is fine 😀."),
        ("我喜欢😀喝茶。", "我喜欢喝茶。", "I like tea.", "I like tea 😀."),
        ("你好。😀我很好。", "你好。我很好。", "Hello. I am well.", "Hello. 😀 I am well."),
        ("好😀，不好😆。", "好，不好。", "Good, not good.", "Good 😀, not good 😆."),
        ("好😀，不好😆。", "好，不好。", "Good and not good.", "Good and not good. 😀 😆"),
        (" 😀 好 👨‍👩‍👧\n", "好", "Good", " 😀 Good 👨‍👩‍👧\n"),
        ("很好😀😆", "很好", "Fine", "Fine 😀😆"),
        ("\ufeff😀\u200b好", "好", "Good", "😀 Good"),
    ],
)
def test_emoji_come_back_where_they_stood(
    text: str, seen: str, translation: str, restored: str
) -> None:
    found = reduced(text)
    assert found is not None
    assert found.text == seen
    assert found.restored(translation, " ") == restored


def test_no_character_is_overlooked_by_the_first_look() -> None:
    text = " ".join(map(chr, range(sys.maxunicode + 1)))
    found = [match.group() for match in _compiled(_SET_APART).finditer(text)]
    assert len(found) > 1000
    assert all(map(_MAY_BE_APART.search, found))


PARTS = st.sampled_from(
    [
        "一",
        "好，",
        "b ",
        "c. ",
        "😀",
        "👍🏽",
        "👨‍👩‍👧",
        "🇩🇪",
        "❤️",
        "1️⃣",
        "\u200b",
        "\ufeff",
        "\n",
        " ",
        "7.5",
    ]
)


@given(st.lists(PARTS, max_size=12), st.sampled_from(["", "Yes.", "Yes, no. So", "一，二"]))
def test_no_emoji_is_lost_added_or_moved_past_another(parts: list[str], translation: str) -> None:
    text = "".join(parts)
    found = reduced(text)
    if found is None:
        assert not emoji_of(text)
        return
    assert reduced(found.text) is None
    restored = found.restored(translation, " ")
    assert emoji_of(restored) == emoji_of(text)
    assert "".join(restored.split()) != "" or not emoji_of(text)


@given(st.text(max_size=60))
def test_any_text_is_reduced_once(text: str) -> None:
    found = reduced(text)
    if found is not None:
        assert emoji_of(found.restored("", "")) == emoji_of(text)


@pytest.mark.parametrize(
    ("text", "kind", "found"),
    [
        ("Hi {name}, {0:>8} {{b}} ${c}", "placeholders", ["{name}", "{0:>8}", "{{b}}", "${c}"]),
        ("%s, %5.2f, %1$s: %(n)d; 100% %%", "placeholders", ["%s", "%5.2f", "%1$s", "%(n)d"]),
        ("{ } {} 50%save", "placeholders", []),
        ("Run `a = {b}` or ``c`d``, not ` `", "code", ["`a = {b}`", "``c`d``", "` `"]),
        ("Run `42` {7} in 9", "numbers", ["42", "7", "9"]),
        ("好😀，👍🏽 5 😀", "emoji", ["😀", "👍🏽"]),
    ],
)  # fmt: skip
def test_placeholders_code_and_emoji_are_literals(text: str, kind: str, found: list[str]) -> None:
    assert literals(text, (kind,)) == found  # type: ignore[arg-type]
