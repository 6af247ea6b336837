"""What the limit and the naive server run: any subject, answered in this process.

Translation, whose decoding loop is long, is answered by the service's own family, one sentence
at a time.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.in_process import PRECISIONS, Answerer, Item, open_text_or_image
from service.families import FAMILIES
from service.repository.manifest import read_manifest, read_parameters
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.tasks import Task, TranslateItem


def open_answerer(folder: Path, threads: int | None) -> Answerer:
    """Open a version's folder; `threads` of None leaves a session to its own defaults."""
    manifest = read_manifest(folder / "model.toml")
    if manifest.task is Task.TRANSLATE:
        return TranslationAnswerer.open(folder, threads)
    return open_text_or_image(folder, threads)


@dataclass(frozen=True, slots=True)
class TranslationAnswerer:
    """An encoder and a decoder, by the service's family and without its batcher."""

    family: Any
    sessions: Mapping[str, OrtSession]

    @classmethod
    def open(cls, folder: Path, threads: int | None) -> "TranslationAnswerer":
        """Read graphs and tokenizers."""
        manifest = read_manifest(folder / "model.toml")
        entry = FAMILIES[manifest.family]
        family = entry.open(folder, read_parameters(manifest.parameters, entry.parameters))
        fallback = next(name for name in PRECISIONS if name in manifest.graphs)
        graphs = manifest.graphs[manifest.default_precision.get("cpu", fallback)]  # type: ignore[call-overload]
        count = threads or os.cpu_count() or 1
        sessions = {
            name: OrtSession(folder / file, Device("cpu"), count) for name, file in graphs.items()
        }
        return cls(family, sessions)

    def answer(self, item: Item) -> Mapping[str, Any]:
        """Return the translation."""
        asked = TranslateItem(str(item))
        work = self.family.processor.preprocess(asked)
        result = self.family.model.infer(self.sessions, [work])[0]
        return {"translation": self.family.processor.postprocess(result, asked).text}

    def length(self, item: Item) -> int:
        """Return tokens of the source."""
        return int(self.family.processor.preprocess(TranslateItem(str(item))).length)

    def collate(self, items: Sequence[Item]) -> Any:
        """Tokenise; the family pads."""
        return [self.family.processor.preprocess(TranslateItem(str(item))) for item in items]

    def run(self, feeds: Any) -> Any:
        """Encode, and decode to the end."""
        return self.family.model.infer(self.sessions, feeds)
