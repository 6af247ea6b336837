"""The script of `make check` finds the phrases on its list."""

import pytest

from tools.plain_english import QUOTATIONS, ROOT, check_python, check_text, files


@pytest.mark.parametrize(
    ("source", "habit"),
    [
        ("# Whoever waits gets an answer.", "whoever"),
        ('x = "at most so many rows"', "so many"),
        ('"""Streams that are told now."""', "told"),
        ('def f():\n    """Compute it anew."""', "anew"),
        ("# nobody waits", "nobody / everybody"),
        ("# the file beside the graph", "beside"),
        ('class A:\n    """Of a batch, the rows."""', "opening"),
        ('class A:\n    """That which waits."""', "opening"),
        ('def lane():\n    """Return the one lane."""', "restates the name"),
    ],
)
def test_a_phrase_on_the_list_is_found(source: str, habit: str) -> None:
    assert [finding.habit for finding in check_python(source)][:1] == [habit]


@pytest.mark.parametrize(
    "source",
    [
        '"""Return the number of items that wait."""',
        "# besides, a request is answered once",
        "everybody = nobody = told = 1",
        'def f():\n    """So far only zh-en is supported."""',
        'def lane():\n    """Return the lane that takes an item of this length."""',
    ],
)
def test_plain_text_and_names_are_not(source: str) -> None:
    assert list(check_python(source)) == []


def test_code_in_documents_is_not_prose() -> None:
    text = "Use `nobody` as the user.\n```sh\nsu nobody\n```\nWhoever reads this\n"
    assert [(finding.line, finding.habit) for finding in check_text(text)] == [(5, "whoever")]


def test_the_lists_name_what_exists() -> None:
    assert [name for name in QUOTATIONS if not (ROOT / name).exists()] == []
    checked = {path.relative_to(ROOT).as_posix() for path in files()}
    assert {"README.md", "service/app.py", "docs/operations.md"} <= checked
