"""Every value of the Helm chart has a meaning, a place in its schema and a row in the document."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from service.settings import settings_table

ROOT = Path(__file__).parents[3]
CHART = ROOT / "deploy" / "helm" / "quartet"
TEXT = (CHART / "values.yaml").read_text(encoding="utf-8")
SCHEMA = json.loads((CHART / "values.schema.json").read_text(encoding="utf-8"))
DOCUMENT = (ROOT / "docs" / "kubernetes.md").read_text(encoding="utf-8")


class Value(NamedTuple):
    key: str
    default: str
    meaning: str


def leaves(
    values: Mapping[str, Any], schema: Mapping[str, Any], path: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yield what a user sets as a whole: what the schema gives no keys of its own."""
    for key, value in values.items():
        inner = schema["properties"][key]
        if inner.get("required"):
            yield from leaves(value, inner, f"{path}{key}.")
        else:
            yield f"{path}{key}", value


def meanings() -> Mapping[str, str]:
    """Return the comment above each key of values.yaml."""
    found, section = {}, ""
    for line, following in zip(TEXT.splitlines(), TEXT.splitlines()[1:], strict=False):
        if top := re.match(r"(\w+):$", line):
            section = f"{top[1]}."
        comment = re.match(r"( *)# (.+)", line)
        if comment and (key := re.match(rf"{comment[1]}(\w+):", following)):
            found[f"{section if comment[1] else ''}{key[1]}"] = comment[2]
    return found


def table() -> list[Value]:
    known = meanings()
    return [
        Value(key, json.dumps(default), known.get(key, ""))
        for key, default in leaves(yaml.safe_load(TEXT), SCHEMA)
    ]


def test_every_value_has_a_meaning() -> None:
    assert [value.key for value in table() if not value.meaning] == []
    assert len(table()) > 40


def test_the_schema_knows_the_values_and_no_others() -> None:
    known = {key for key, _ in leaves(yaml.safe_load(TEXT), SCHEMA)}

    def asked(schema: Mapping[str, Any], path: str = "") -> Iterator[str]:
        for key, inner in schema["properties"].items():
            yield from asked(inner, f"{path}{key}.") if inner.get("required") else [f"{path}{key}"]

    assert set(asked(SCHEMA)) - {"global"} == known  # Helm gives every chart `global`


def test_the_document_lists_every_value() -> None:
    rows = [f"| `{v.key}` | `{v.default}` | {v.meaning} |" for v in table()]
    section = DOCUMENT.partition("<!-- values -->\n")[2].partition("<!-- /values -->")[0]
    assert section.splitlines()[2:] == rows


def test_settings_that_the_chart_sets_are_settings() -> None:
    names = SCHEMA["properties"]["settings"]["propertyNames"]["not"]["enum"]
    known = {row.environment for row in settings_table()}
    assert {f"QUARTET_{name.replace('.', '__').upper()}" for name in names} <= known
