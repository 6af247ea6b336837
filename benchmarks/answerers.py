"""What the limit and the naive server run: any subject, answered in this process.

Translation, whose decoding loop is long, and what another engine computes are answered by the
service's own family, one item at a time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.in_process import Answerer, Item, open_text_or_image
from service.registry.opening import open_family
from service.repository.manifest import read_manifest
from service.repository.repository import ModelRepository
from service.runtime.providers import Device
from service.runtime.threads import available_cores
from service.tasks import (
    AnyItem,
    ClassifyItem,
    DetectItem,
    EmbedItem,
    Image,
    Task,
    Text,
    TranslateItem,
)
from service.types import Session


def open_answerer(folder: Path, threads: int | None, device: Device | None = None) -> Answerer:
    """Open a version's folder; `threads` of None leaves a session to its own defaults.

    With a device the service's family answers in fp32, on this device's provider.
    """
    if device is not None or read_manifest(folder / "model.toml").task is Task.TRANSLATE:
        precision = None if device is None else "fp32"
        device = device or Device("cpu")
        return FamilyAnswerer.open(folder, threads or available_cores(), device, precision)
    return open_text_or_image(folder, threads)


@dataclass(frozen=True, slots=True)
class FamilyAnswerer:
    """Sessions and a family of the service, without its batcher."""

    task: Task
    family: Any
    sessions: Mapping[str, Session]

    @classmethod
    def open(
        cls, folder: Path, threads: int, device: Device, precision: str | None = None
    ) -> "FamilyAnswerer":
        """Read what the service would read; of the precision of its default if it is None."""
        repository, version = ModelRepository(folder.parents[1]), int(folder.name)
        files = repository.open(folder.parent.name, version, precision)
        names = files.manifest.inputs
        sessions = {
            name: device.provider.opens(graph, device, threads, input_names=names)
            for name, graph in files.graphs.items()
        }
        return cls(files.manifest.task, open_family(files), sessions)

    def answer(self, item: Item) -> Mapping[str, Any]:
        """Return the answer's fields."""
        asked = self._asked(item)
        work = self.family.processor.preprocess(asked)
        result = self.family.model.infer(self.sessions, [work])[0]
        return asdict(self.family.processor.postprocess(result, asked))

    def length(self, item: Item) -> int:
        """Return tokens, or pixels."""
        return int(self.family.processor.preprocess(self._asked(item)).length)

    def collate(self, items: Sequence[Item]) -> Any:
        """Preprocess; the family pads."""
        return [self.family.processor.preprocess(self._asked(item)) for item in items]

    def run(self, feeds: Any) -> Any:
        """Run the graphs, a translator's to the end."""
        return self.family.model.infer(self.sessions, feeds)

    def _asked(self, item: Item) -> AnyItem:
        content = Image(item) if isinstance(item, bytes) else Text(item)
        match self.task, content:
            case Task.TRANSLATE, Text():
                return TranslateItem(content.text)
            case Task.DETECT, Image():
                return DetectItem(content)
            case Task.EMBED, _:
                return EmbedItem(content)
            case Task.CLASSIFY, _:
                return ClassifyItem(content)
            case task, _:
                raise ValueError(f"no benchmark of the task {task}")
