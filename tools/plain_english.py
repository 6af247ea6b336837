"""Check code and documents for unidiomatic phrases: `python tools/plain_english.py`.

Docstrings, comments and string literals of Python files, and whole documents, are searched for the
patterns in `HABITS`. Prints a line for each match and exits with 1 if there is one.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]

# Files that quote these phrases, or hold text in other people's words.
QUOTATIONS = frozenset(
    {
        "tools/plain_english.py",
        "tests/unit/test_plain_english.py",
        "models/convert/samples.py",  # sentences to translate
    }
)

_PYTHON = (
    "benchmarks",
    "deploy",
    "drills",
    "loadtest",
    "models",
    "service",
    "tests",
    "tools",
)
_DOCUMENTS = (
    "*.md",
    "docs/**/*.md",
    "Makefile",
    "Dockerfile",
    "*.yml",
    "deploy/**/*.yml",
    ".env.example",
    "service/page/assets/*.html",
    "service/page/assets/*.js",
)

HABITS = {
    "whoever": r"\bwhoever\b",
    "so many": r"\bso many\b(?! that\b)",
    "told": r"\b(?:is|are|was|were|be|been|being|get|gets|not) told\b|\btold (?:by|of|apart)\b",
    "anew": r"\banew\b",
    "nobody / everybody": r"\b(?:nobody|everybody)\b",
    "beside": r"\bbeside\b",
    "who is": r"(?:^|[.;:] )who (?:is|has|leaves|left|waits|comes|asks|reads|writes)\b",
}

_MATCHERS = {name: re.compile(pattern, re.IGNORECASE) for name, pattern in HABITS.items()}

# First words of a docstring that is not a sentence of its own.
_OPENING = re.compile(r"\s*(That|Of|Who|Whoever|So)\b(?! far\b)")

# "Return the one lane." above `def lane`: repeats the name and says nothing else.
_RESTATED = re.compile(r"Return (?:the|its) (?:one )?([\w ]+)\.")


class Finding(NamedTuple):
    """A phrase to rewrite: line number, name of the habit and the line or its part."""

    line: int
    habit: str
    text: str


def check_text(text: str) -> Iterator[Finding]:
    """Yield what a document holds, outside of code blocks and inline code."""
    is_code = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif not is_code:
            yield from _search(re.sub(r"`[^`]*`", "", line), number)


def check_python(source: str, *, literals: bool = True) -> Iterator[Finding]:
    """Yield what comments, docstrings and (with `literals`) other strings of a module hold."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield from _search(token.string, token.start[0])
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _check_docstring(node)
            if not literals:
                yield from _search_lines(
                    ast.get_docstring(node) or "", node.body[0].lineno if node.body else 1
                )
        elif literals and isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _search_lines(node.value, node.lineno)


def _check_docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> Iterator[Finding]:
    first = (ast.get_docstring(node) or "").split("\n\n")[0].replace("\n", " ")
    line = node.body[0].lineno if node.body else 1
    if _OPENING.match(first):
        yield Finding(line, "opening", first)
    restated = _RESTATED.fullmatch(first)
    name = getattr(node, "name", "").strip("_").replace("_", " ")
    if restated and restated.group(1) == name:
        yield Finding(line, "restates the name", first)


def _search_lines(text: str, first: int) -> Iterator[Finding]:
    for number, line in enumerate(text.splitlines(), start=first):
        yield from _search(line, number)


def _search(line: str, number: int) -> Iterator[Finding]:
    for name, matcher in _MATCHERS.items():
        if matcher.search(line):
            yield Finding(number, name, line.strip())


def files(root: Path = ROOT) -> Iterator[Path]:
    """Yield the files to check: Python files of the project's folders, and documents."""
    found = [path for folder in _PYTHON for path in (root / folder).rglob("*.py")]
    found += [path for pattern in _DOCUMENTS for path in root.glob(pattern)]
    for path in sorted(set(found)):
        name = path.relative_to(root).as_posix()
        if name not in QUOTATIONS:
            yield path


def _check(path: Path, text: str) -> Iterator[Finding]:
    if path.suffix == ".js":  # its backticks quote texts that the page shows
        return _search_lines(text, 1)
    if path.suffix != ".py":
        return check_text(text)
    # Strings of tests are data, often hostile or in another language.
    return check_python(text, literals=path.relative_to(ROOT).parts[0] != "tests")


def main() -> int:
    """Check every file; return the exit status."""
    count = 0
    for path in files():
        text = path.read_text(encoding="utf-8")
        for finding in sorted(set(_check(path, text))):
            count += 1
            sys.stdout.write(
                f"{path.relative_to(ROOT)}:{finding.line}: {finding.habit}: {finding.text}\n"
            )
    if count:
        sys.stdout.write(f"{count} phrases to rewrite; docs/glossary.md has the terms\n")
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
