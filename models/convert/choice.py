"""int8 of a graph of convolutions: forms are made, compared with fp32, and the best is kept."""

import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import onnx
from onnx import ModelProto
from tqdm import tqdm

from models.convert.asking import AskedGraph, Replies, loss_of, noise_of
from models.convert.errors import CheckpointError
from models.convert.graphs import size_of, write_graph
from models.convert.optimise import seconds_of
from models.convert.sensitivity import Layer, keep_until, products
from models.graphs.int8_forms import quantise_by_rows, weights_as_fp32
from models.graphs.quiet import quiet
from models.graphs.static import StaticQuantiser, WeightBits
from service.families.family import SESSION
from service.repository.repository import VersionFiles
from service.tasks import AnyItem

MAX_LOSS = 2.0
"""Per cent by which int8 may change answers, where nothing else is asked."""

GAIN = 1.05
"""Times as fast as what stands that a form must be to replace it."""

_SPLIT = 16
"""Items from which on half of them calibrate and the other half judge."""
_JUDGES = 32
_FP32 = "fp32"


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write the graph, and what it is worth."""

    name: str
    loss: float
    """Mean change of the answers, in per cent."""
    milliseconds: float
    """Of one run for one item, on one thread."""
    megabytes: float
    verdict: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What was tried, fp32 first, and the graph that was kept."""

    forms: Sequence[Form]
    graph: Path | None


def has_convolutions(model: ModelProto) -> bool:
    """Tell whether a graph has several convolutions: one alone may cut an image into patches."""
    return sum(node.op_type == "Conv" for node in model.graph.node) > 1


def choose_int8(
    files: VersionFiles,
    items: Sequence[AnyItem],
    max_loss: float = MAX_LOSS,
    *,
    is_static: bool = False,
) -> Choice:
    """Write the best int8 form next to a version's fp32 graph, as `<name>_int8.onnx`.

    Best is the fastest whose answers to the items change by at most `max_loss` and which is at
    least 5 % faster than fp32; of two forms the earlier one, unless the later is 5 % faster.

    Args:
        files: the version in fp32.
        items: what ranges are measured with, and answers compared for.
        max_loss: in per cent.
        is_static: whether a static form is written even if it is no faster than fp32 here.

    Raises:
        CheckpointError: the version has no convolutions or several graphs, or an item cannot be
            answered.
    """
    with AskedGraph.of(files) as asked, tempfile.TemporaryDirectory() as folder:
        model = weights_as_fp32(onnx.load(str(asked.graph)))
        if not has_convolutions(model):
            raise CheckpointError(f"{asked.graph.name} is no graph of convolutions")
        trial = _Trial(asked, model, items, max_loss, Path(folder))
        tried = trial.static_forms()
        if not is_static and products(model):
            tried.append(trial.form("scales by row", lambda: quantise_by_rows(model)))
        return _chosen(asked.graph, trial, tried, 0.0 if is_static else GAIN)


@dataclass(frozen=True, slots=True)
class _Tried:
    name: str
    graph: Path
    loss: float


class _Trial:
    """Makes forms of one graph and compares their answers with its own."""

    def __init__(
        self,
        asked: AskedGraph,
        model: ModelProto,
        items: Sequence[AnyItem],
        max_loss: float,
        folder: Path,
    ) -> None:
        self._asked, self._model, self.max_loss, self._folder = asked, model, max_loss, folder
        halved = len(items) >= _SPLIT
        self._judges = list(items[1::2] if halved else items)[:_JUDGES]
        self.calibration = asked.ask(items[::2] if halved else items).fed
        self.wanted = asked.ask(self._judges)

    def form(self, name: str, make: Callable[[], ModelProto]) -> _Tried:
        """Make a form and compare its answers."""
        graph = self._folder / f"{name}.onnx"
        with quiet():
            write_graph(make(), graph)
        return _Tried(name, graph, loss_of(self.wanted.answers, self._given(graph).answers))

    def static_forms(self) -> list[_Tried]:
        """Make the static forms, with what hurts most in fp32."""
        with StaticQuantiser(self._model, self.calibration) as quantiser:
            order = list[Layer]()
            return [self._static(quantiser, bits, order) for bits in (7, 8)]

    def _static(self, quantiser: StaticQuantiser, bits: WeightBits, order: list[Layer]) -> _Tried:
        parts = {part.name: part.nodes for part in quantiser.parts}

        def of(kept: Sequence[Layer]) -> _Tried:
            nodes = [node for layer in kept for node in parts[layer.node]]
            name = f"static, weights of {bits} bits, {len(kept)} of {len(parts)} parts in fp32"
            return self.form(name, lambda: quantiser.quantised(nodes, bits))

        whole = of(())
        if whole.loss <= self.max_loss:
            return whole
        if not order:
            order += self._sensitivity(quantiser)
        return of(keep_until(order, lambda kept: of(kept).loss, self.max_loss))

    def _sensitivity(self, quantiser: StaticQuantiser) -> Sequence[Layer]:
        """Quantise each part alone, and measure the noise in what the graph gives."""
        nodes = {node for part in quantiser.parts for node in part.nodes}
        layers = []
        for part in tqdm(quantiser.parts, desc="sensitivity", unit="part", leave=False):
            graph = self._folder / "alone.onnx"
            with quiet():
                write_graph(quantiser.quantised(nodes.difference(part.nodes)), graph)
            noise = noise_of(self.wanted.given, self._given(graph).given)
            layers.append(Layer(SESSION, part.name, 100 * noise))
        return layers

    def _given(self, graph: Path) -> Replies:
        return self._asked.ask(self._judges, graph)


def _chosen(graph: Path, trial: _Trial, tried: Sequence[_Tried], gain: float) -> Choice:
    paths = [graph, *(one.graph for one in tried)]
    seconds = seconds_of(paths, trial.wanted.fed[0])
    best, best_gain = 0, gain
    for at, one in enumerate(tried, 1):
        if one.loss <= trial.max_loss and seconds[best] / seconds[at] >= best_gain:
            best, best_gain = at, GAIN
    rows = [_Tried(_FP32, graph, 0.0), *tried]
    forms = []
    for one, taken in zip(rows, seconds, strict=True):
        verdict = "changes answers too much" if one.loss > trial.max_loss else "not fast enough"
        forms.append(Form(one.name, one.loss, taken * 1e3, size_of(one.graph) / 1e6, verdict))
    forms[0] = replace(forms[0], verdict="original")
    if not best:
        return Choice(forms, None)
    forms[best] = replace(forms[best], verdict="chosen")
    target = graph.with_name(f"{graph.stem}_int8.onnx")
    shutil.copyfile(rows[best].graph, target)
    return Choice(forms, target)


def forms_table(forms: Sequence[Form]) -> str:
    """Return a Markdown table, a row a form."""
    lines = [
        "| form | ms | times as fast | answers changed by | MB | verdict |",
        "| --- | ---: | ---: | ---: | ---: | --- |",
    ]
    first = forms[0].milliseconds
    lines += [
        f"| {one.name} | {one.milliseconds:.2f} | {first / one.milliseconds:.2f} "
        f"| {one.loss:.2f} % | {one.megabytes:.2f} | {one.verdict} |"
        for one in forms
    ]
    return "\n".join(lines)
