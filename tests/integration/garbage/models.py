"""The repository of models that the rounds ask."""

import json
import os
import shutil
from pathlib import Path

from tests.integration.garbage.bench import STARTER_NAMES


def repository(folder: Path, starters: Path) -> Path:
    """Make a repository of the starter models and of two that cannot be loaded."""
    for model in STARTER_NAMES:
        _copy(starters / model, folder / model)
    shutil.copytree(starters / "workflows", folder / "workflows")
    (folder / "broken" / "1").mkdir(parents=True)
    (folder / "broken" / "1" / "model.toml").write_text("task = 7\n")
    misled = folder / "misled" / "1"
    _copy(starters / "digits", misled.parent)
    goldens = json.loads((misled / "goldens.json").read_bytes())
    for item in goldens["items"]:
        item["answer"]["labels"][0]["score"] = 0.5
    (misled / "goldens.json").write_text(json.dumps(goldens))
    return folder


def _copy(source: Path, target: Path) -> None:
    """Copy a model with its first goldens only, so that it is loaded quickly."""
    shutil.copytree(source, target, copy_function=_link)
    for file in target.glob("*/goldens.json"):
        goldens = json.loads(file.read_bytes())
        file.unlink()  # which may be a link to the original
        file.write_text(json.dumps({**goldens, "items": goldens["items"][:2]}))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copy2(source, target)
