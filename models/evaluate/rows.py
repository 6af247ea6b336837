"""Data files to measure, fine-tune and distil with: one item a line and what is right of it.

JSON Lines (`.jsonl`, one object a line) or tab-separated values (`.tsv`, columns named by the
first line); either may be compressed (`.gz`). Unknown keys are ignored. By task:

| classify | `text` (and `text_pair`) or `image`; `label`, or a list `labels` where several hold |
| tag | `text`; `spans`: a list of `label`, `start` and `end` |
| translate | `text`; `reference` or a list `references`; `source`, `target`: languages |
| generate | `text`; `reference` or a list `references`; `prefix` |
| embed | `query`, a text; what it should find, `text` or `image`; `query_prompt`, `text_prompt` |

`image` is the path of a file, relative to the data file. Lists are for JSON Lines only.
"""

import csv
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from models.evaluate.errors import EvaluationError
from service.tasks import ClassifyItem, EmbedItem, GenerateItem, Image, Text, TranslateItem


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a data file."""

    values: Mapping[str, Any]
    file: Path
    line: int

    def text(self, key: str) -> str:
        """Return a text that must be there.

        Raises:
            EvaluationError: it is missing, or is no text.
        """
        value = self.optional(key)
        if value is None:
            raise EvaluationError(f"{self.where} has no {key!r}")
        return value

    def optional(self, key: str) -> str | None:
        """Return a text, or None where there is none. Raises as `text` does."""
        value = self.values.get(key)
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)  # a label such as 7
        if value is not None and not isinstance(value, str):
            raise EvaluationError(f"{self.where}: {key!r} must be a text")
        return value or None

    def texts(self, one: str, many: str) -> tuple[str, ...]:
        """Return the texts of a list under one key, or the text under the other."""
        value = self.values.get(many)
        if value is None:
            return (self.text(one),)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise EvaluationError(f"{self.where}: {many!r} must be a list of texts")
        return tuple(value)

    def content(self) -> Text | Image:
        """Return the text or the image. Raises EvaluationError."""
        name = self.optional("image")
        if name is None:
            return Text(self.text("text"))
        try:
            return Image((self.file.parent / name).read_bytes())
        except OSError as error:
            raise EvaluationError(f"{self.where}: {name}: {error.strerror}") from None

    @property
    def where(self) -> str:
        """Return the file and the line, for a message."""
        return f"{self.file.name}, line {self.line}"


@dataclass(frozen=True, slots=True)
class Labelled:
    """Something to classify, and its labels."""

    item: ClassifyItem
    labels: tuple[str, ...]
    row: Row


@dataclass(frozen=True, slots=True)
class Translated:
    """A text, and what its translation may be."""

    item: TranslateItem
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Generated:
    """A text, and what may be written from it."""

    item: GenerateItem
    references: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Sought:
    """A query, and what it should find among all that the file's queries should find."""

    query: EmbedItem
    found: EmbedItem


Table: TypeAlias = Sequence[Row]


def read_rows(path: Path) -> Table:
    """Read a data file.

    Raises:
        EvaluationError: it cannot be read, is of no known kind, or holds nothing.
    """
    try:
        content = path.read_bytes()
        name = path.name.removesuffix(".gz")
        text = (gzip.decompress(content) if name != path.name else content).decode("utf-8")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise EvaluationError(f"{path.name} cannot be read: {error}") from None
    if name.endswith(".jsonl"):
        rows = _json_lines(text, path)
    elif name.endswith(".tsv"):
        lines = csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE)
        rows = [Row(line, path, at) for at, line in enumerate(lines, 2)]
    else:
        raise EvaluationError(f"{path.name} is neither .jsonl nor .tsv, nor one of them in .gz")
    if not rows:
        raise EvaluationError(f"{path.name} holds no items")
    return rows


def labelled(rows: Table, *, needed: bool = True) -> list[Labelled]:
    """Read rows to classify; where labels are not needed, a row without has none."""

    def labels(row: Row) -> tuple[str, ...]:
        bare = not needed and row.values.keys().isdisjoint(("label", "labels"))
        return () if bare else row.texts("label", "labels")

    return [
        Labelled(ClassifyItem(row.content(), text_pair=row.optional("text_pair")), labels(row), row)
        for row in rows
    ]


def translated(rows: Table) -> list[Translated]:
    """Read rows to translate."""
    return [
        Translated(
            TranslateItem(row.text("text"), row.optional("source"), row.optional("target")),
            row.texts("reference", "references"),
        )
        for row in rows
    ]


def generated(rows: Table) -> list[Generated]:
    """Read rows to write from."""
    return [
        Generated(
            GenerateItem(row.text("text"), row.optional("prefix")),
            row.texts("reference", "references"),
        )
        for row in rows
    ]


def sought(rows: Table) -> list[Sought]:
    """Read rows to search with."""
    return [
        Sought(
            EmbedItem(Text(row.text("query")), row.optional("query_prompt")),
            EmbedItem(row.content(), row.optional("text_prompt")),
        )
        for row in rows
    ]


def _json_lines(text: str, path: Path) -> list[Row]:
    rows = []
    for at, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise EvaluationError(f"{path.name}, line {at} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise EvaluationError(f"{path.name}, line {at} is not a JSON object")
        rows.append(Row(values, path, at))
    return rows
