"""The small files of a version: `goldens.json`, golden images and `model.toml`."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

TomlValue = str | bool | int | float | Sequence["TomlValue"] | Mapping[str, "TomlValue"]

TABLE_START, TABLE_END = "<!-- evaluation -->", "<!-- /evaluation -->"


@dataclass(slots=True)
class Goldens:
    """Items and the answers PyTorch gave, in the shapes of the HTTP API.

    Items that hold an image get a file under `goldens/`, written when it is added.
    """

    folder: Path
    records: list[dict[str, Any]] = field(default_factory=list)

    def add_text(self, text: str, answer: Mapping[str, Any], **options: Any) -> None:
        """Record the answer to a text; options (such as `num_beams`) become part of the item."""
        self.records.append({"item": {"text": text, **options}, "answer": dict(answer)})

    def add_image(self, image: Image.Image, answer: Mapping[str, Any]) -> None:
        """Record the answer to an image and save it as PNG, which keeps every pixel."""
        name = f"goldens/{len(self.records)}.png"
        (self.folder / "goldens").mkdir(parents=True, exist_ok=True)
        image.save(self.folder / name, optimize=True)
        self.records.append({"item": {"image": name}, "answer": dict(answer)})

    def add_image_file(self, path: Path, answer: Mapping[str, Any]) -> None:
        """Record the answer to an image, copying its file as it is."""
        name = f"goldens/{len(self.records)}{path.suffix}"
        (self.folder / "goldens").mkdir(parents=True, exist_ok=True)
        (self.folder / name).write_bytes(path.read_bytes())
        self.records.append({"item": {"image": name}, "answer": dict(answer)})

    def write(self) -> None:
        """Write `goldens.json`, one record a line."""
        lines = ",\n".join(f"  {json.dumps(item, ensure_ascii=False)}" for item in self.records)
        created = json.dumps(f"torch {torch.__version__.partition('+')[0]}")
        text = f'{{"created_with": {created}, "items": [\n{lines}\n]}}\n'
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "goldens.json").write_text(text, encoding="utf-8")


def label_scores(labels: Sequence[str], logits: torch.Tensor) -> dict[str, Any]:
    """Return the answer of a classifier for logits [L]: every label, descending score."""
    scores = logits.detach().double().softmax(-1).tolist()
    ranked = sorted(zip(labels, scores, strict=True), key=lambda pair: -pair[1])
    return {"labels": [{"label": label, "score": round(score, 7)} for label, score in ranked]}


def embedding(vector: NDArray[np.floating]) -> dict[str, Any]:
    """Return the answer of an embedder for a vector [D] as it is, 6 decimals."""
    return {"embedding": [round(float(value), 6) for value in vector]}


def unit_embedding(vector: NDArray[np.floating]) -> dict[str, Any]:
    """Return the answer of an embedder for a vector [D]: scaled to length 1, 6 decimals."""
    return embedding(vector.astype(np.float64) / max(float(np.linalg.norm(vector)), 1e-12))


def write_manifest(folder: Path, manifest: Mapping[str, TomlValue]) -> None:
    """Write `model.toml`: plain values first, then one table for each mapping, nested too."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "\n".join(_toml_lines(manifest, ())).strip() + "\n"
    (folder / "model.toml").write_text(text, encoding="utf-8")


def _toml_lines(table: Mapping[str, TomlValue], path: tuple[str, ...]) -> list[str]:
    plain = [
        f"{key} = {_toml_value(value)}"
        for key, value in table.items()
        if not isinstance(value, Mapping)
    ]
    lines = ["", f"[{'.'.join(path)}]", *plain] if path and plain else plain
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += _toml_lines(value, (*path, key))
    return lines


def _toml_value(value: TomlValue) -> str:
    # JSON's strings, booleans, numbers and flat arrays are TOML too.
    return json.dumps(value, ensure_ascii=False)


def write_card(folder: Path, text: str) -> None:
    """Write the model card; `models.evaluate` fills in the table between the markers.

    Raises:
        ValueError: if the text has no place for the table.
    """
    if TABLE_START not in text or TABLE_END not in text:
        raise ValueError(f"the card needs {TABLE_START} and {TABLE_END}")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "README.md").write_text(text, encoding="utf-8")


def replace_table(card: str, table: str) -> str:
    """Return the card with what stands between the markers replaced by the table.

    Raises:
        ValueError: if the card lacks a marker.
    """
    before, start, rest = card.partition(TABLE_START)
    _, end, after = rest.partition(TABLE_END)
    if not start or not end:
        raise ValueError(f"the card needs {TABLE_START} and {TABLE_END}")
    return f"{before}{TABLE_START}\n{table.strip()}\n{TABLE_END}{after}"
