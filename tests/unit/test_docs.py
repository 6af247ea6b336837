"""Documentation that can go stale is compared with the code."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from service.api.errors import FRAMEWORK, HTTP_ERROR, STATUS
from service.manifest_page import manifest_page
from service.settings import settings_page, settings_table
from tests.unit.declared_metrics import declared_metrics

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
SETTINGS = ROOT / "docs" / "settings.md"
MANIFEST = ROOT / "docs" / "manifest.md"
OPERATIONS = ROOT / "docs" / "operations.md"
MADE = "benchmarks/out/"  # by `make bench`, and not kept
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

PATH = re.compile(r"`((?:service|models|benchmarks|loadtest|deploy|docs|tests)/[\w./-]*)`")
LINK = re.compile(r"\]\((?!\w+:|#)([^)#\s]+)")
SETTING = re.compile(r"QUARTET_[A-Z_]*[A-Z]")
OPTION = re.compile(r"--(?:server|models|batching|cache|limits|logs|traces|admin)[.-][a-z-]+")


def section(marker: str) -> list[str]:
    """Return the lines of the operations guide between two marks."""
    text = OPERATIONS.read_text(encoding="utf-8")
    return text.split(f"<!-- {marker} -->\n")[1].split(f"<!-- /{marker} -->")[0].splitlines()


def tree_paths(text: str) -> Iterator[str]:
    """Return the paths of the first code block that draws a tree.

    A line is indented by two spaces a level; its names, several where they share a meaning, end
    at the first gap of two spaces.
    """
    block = next((b for b in text.split("```")[1::2] if re.search(r"^service/", b, re.M)), "")
    above: list[str] = []
    for line in block.splitlines()[1:]:
        names = re.split(r"\s{2,}", line.strip())[0].split()
        depth = (len(line) - len(line.lstrip())) // 2
        if names and re.fullmatch(r"[\w.<>-]+/?", names[0]):
            above[depth:] = [names[-1].rstrip("/")]
            yield from ("/".join([*above[:-1], name.rstrip("/")]) for name in names)


def test_the_settings_page_is_the_one_that_the_code_writes() -> None:
    assert SETTINGS.read_text(encoding="utf-8") == settings_page()


def test_the_page_of_the_manifest_is_the_one_that_the_code_writes() -> None:
    assert MANIFEST.read_text(encoding="utf-8") == manifest_page()


def test_every_key_of_a_manifest_has_a_meaning() -> None:
    lines = MANIFEST.read_text(encoding="utf-8").splitlines()
    keys = [line for line in lines if line.startswith("| `")]
    assert len(keys) > 100
    assert [line for line in keys if line.endswith("|  |")] == []


def test_the_operations_guide_lists_every_metric() -> None:
    rows = [
        f"| `{metric.name}` | {metric.kind} | "
        f"{' '.join(f'`{label}`' for label in metric.labels)} | {metric.help} |"
        for metric in declared_metrics()
    ]
    assert section("metrics")[2:] == rows


def test_the_operations_guide_lists_every_error_with_its_status() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\d+) \| .+ \|$", "\n".join(section("errors")), re.M)
    known = {(error.code, str(status.value)) for error, status in STATUS.items()}
    known |= {(code, str(int(status))) for status, (code, _) in FRAMEWORK.items()}
    known |= {(HTTP_ERROR, "401"), ("client_left", "499")}
    assert set(rows) == known
    assert len(rows) == len(known)


def literal_codes(tree: ast.AST) -> Iterator[str]:
    """Yield every string that is assigned to something named `code`."""
    for node in ast.walk(tree):
        targets: list[ast.expr] = []
        if isinstance(node, ast.Assign):
            targets = [t for each in node.targets for t in getattr(each, "elts", [each])]
        elif isinstance(node, ast.AnnAssign):
            targets = [node.target]
        names = {getattr(t, "attr", getattr(t, "id", "")) for t in targets}
        if "code" in names and (value := getattr(node, "value", None)) is not None:
            values = getattr(value, "elts", [value])
            yield from (v.value for v in values if isinstance(getattr(v, "value", None), str))


def test_the_operations_guide_lists_every_code_that_the_source_names() -> None:
    rows = re.findall(r"^\| `(\w+)` \| \d+ \|", "\n".join(section("errors")), re.M)
    sources = (path.read_text(encoding="utf-8") for path in (ROOT / "service").rglob("*.py"))
    found = {
        code for source in sources if "code" in source for code in literal_codes(ast.parse(source))
    }
    assert {"client_left", "overloaded", "malformed_request"} <= found
    assert found - {"ok"} <= set(rows)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_what_a_document_names_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    named = [path for path in PATH.findall(text) if not path.startswith(MADE)]
    paths = [path for path in named if not (ROOT / path).exists()]
    links = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    settings = {row.environment for row in settings_table()}
    options = {row.option for row in settings_table()}
    names = [name for name in SETTING.findall(text) if name not in settings]
    given = [name for name in OPTION.findall(text) if name not in options]
    assert (paths, links, names, given) == ([], [], [], [])


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_command_names_the_environment_that_make_installs(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w/])python3? -m \w+", text) == []


def test_decisions_have_numbers_of_their_own() -> None:
    numbers = [path.name.split("-")[0] for path in ROOT.glob("docs/decisions/*.md")]
    assert len(numbers) == len(set(numbers))


def test_the_glossary_is_short_and_in_one_table() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    terms = re.findall(r"^\| ([\w, -]+) \| [^|]+ \| [^|]*\|$", text, re.M)[1:]
    assert 30 <= len(terms) <= 45
    assert len(terms) == len(set(terms))


def test_the_tree_of_the_readme_exists() -> None:
    paths = list(tree_paths(README.read_text(encoding="utf-8")))
    assert "service/app.py" in paths
    # A name in angle brackets stands for any.
    assert [path for path in paths if "<" not in path and not (ROOT / path).exists()] == []


def test_a_tree_is_read_as_it_is_drawn() -> None:
    tree = "```\nservice/\n  a.py b.py   two\n  c/          more\n    d.py\nmodels/  x\n```\n"
    assert list(tree_paths(tree)) == [
        "service",
        "service/a.py",
        "service/b.py",
        "service/c",
        "service/c/d.py",
        "models",
    ]
