"""A graph whose tensors are served as they are. Only a model.toml chooses this layout."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from service.repository.layouts.exports import MODEL_ROLE, ExportFiles
from service.repository.layouts.facts import Fact, Finding, Layout, Unknown, graph_facts, graph_name
from service.tasks import Task
from service.types import TensorSpec

FAMILY: Final = "tensors"


def _is_chosen(files: ExportFiles) -> str | None:
    return None


def _read(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, {"model": MODEL_ROLE})
    for key in ("inputs", "outputs"):
        if not files.graphs.get(MODEL_ROLE):
            yield Unknown(f"parameters.{key}", "there is no graph, or several without model.onnx")
            continue
        signature = files.signature()
        specs = signature.inputs if key == "inputs" else signature.outputs
        yield Fact(f"parameters.{key}", _table(specs), f"{graph_name(files)}: its {key}")
    if files.graphs.get(MODEL_ROLE) and (metadata := files.signature().metadata):
        yield Fact("parameters.metadata", dict(metadata), f"{graph_name(files)}: its metadata")


def _table(specs: Mapping[str, TensorSpec]) -> Mapping[str, Any]:
    return {
        name: {"dtype": spec.dtype, "shape": [-1 if n is None else n for n in spec.shape]}
        for name, spec in specs.items()
    }


LAYOUTS: Final = (Layout(Task.INFER, FAMILY, _is_chosen, _read),)
