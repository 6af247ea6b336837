"""Text classifiers and sentence embedders."""

from collections.abc import Iterator
from typing import Final

from service.repository.layouts.exports import ExportFiles
from service.repository.layouts.facts import Fact, Finding, Layout, Unknown, graph_facts
from service.repository.layouts.labels import label_facts
from service.tasks import Task

_HEAD = "ForSequenceClassification"


def _is_classifier(files: ExportFiles) -> str | None:
    return "config.json: architectures" if files.architecture.endswith(_HEAD) else None


def _read_classifier(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, {"model": "model"})
    yield from label_facts(files)
    if isinstance(pad_id := files.config.get("pad_token_id"), int):
        yield Fact("parameters.pad_id", pad_id, "config.json: pad_token_id")
    else:
        yield Unknown("parameters.pad_id", "config.json has no pad_token_id")


LAYOUTS: Final = (Layout(Task.CLASSIFY, "text_classifier", _is_classifier, _read_classifier),)
