"""Tests assert on errors and fields; what errors say is in tests/sentences.json."""

import ast
import json
import re
from pathlib import Path

import pytest

from tests.sentences import sentence

ROOT = Path(__file__).parents[2]


def literal_sentences(path: Path) -> list[int]:
    """The lines of a file on which `match` is given words."""
    source = path.read_text(encoding="utf-8")
    if "match=" not in source:
        return []
    return [
        node.value.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.keyword)
        and node.arg == "match"
        and isinstance(node.value, ast.Constant)
        and " " in str(node.value.value)
    ]


def test_no_test_holds_a_sentence() -> None:
    files = ROOT.glob("tests/**/*.py")
    found = {str(path.relative_to(ROOT)): literal_sentences(path) for path in files}
    assert not {path: lines for path, lines in found.items() if lines}, "use check=sentence"


def test_every_recorded_sentence_is_of_a_test() -> None:
    recorded = json.loads((ROOT / "tests" / "sentences.json").read_text(encoding="utf-8"))
    tests = {re.sub(r"\[.*", "", name, flags=re.DOTALL) for name in recorded}
    sources = {
        path: (ROOT / path).read_text(encoding="utf-8")
        for path, _, _ in (name.partition("::") for name in tests)
    }
    gone = [
        name
        for name in tests
        if f"def {name.rpartition('::')[2]}(" not in sources[name.partition("::")[0]]
    ]
    assert not gone


def test_another_sentence_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sentence(ValueError("as recorded"))
    monkeypatch.delenv("SENTENCES", raising=False)
    with pytest.raises(AssertionError):
        sentence("not as recorded")
