"""Static int8: ranges measured once, then graphs with any of their nodes left in fp32."""

import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from models.graphs.quiet import quiet

Feeds = Mapping[str, NDArray[np.generic]]
WeightBits = Literal[7, 8]

PRODUCTS: Final = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
AFTER: Final = "after the last products"


@dataclass(frozen=True, slots=True)
class Part:
    """Nodes that are quantised together or not at all."""

    name: str
    nodes: tuple[str, ...]


class _Batches(CalibrationDataReader):
    def __init__(self, batches: Iterable[Feeds]) -> None:
        self._batches = iter(batches)

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        batch = next(self._batches, None)
        return None if batch is None else dict(batch)


class StaticQuantiser:
    """Makes QDQ graphs of one fp32 graph: int8 weights a channel, uint8 activations.

    A context manager, as the prepared graph and the ranges are files.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        calibration: Iterable[Feeds],
        method: CalibrationMethod = CalibrationMethod.MinMax,
    ) -> None:
        """Prepare a graph; ranges are measured with the first graph that is made.

        Args:
            model: a graph with fp32 initialisers.
            calibration: batches of feeds that look like what will be served.
            method: how ranges are chosen from them.
        """
        self._folder = tempfile.TemporaryDirectory()
        self._calibration, self._method = calibration, method
        self._metadata = list(model.metadata_props)
        exported, self._prepared = self._file("exported"), self._file("prepared")
        onnx.save_model(model, str(exported))  # given in memory, large weights would be lost
        with quiet():
            quant_pre_process(str(exported), str(self._prepared), skip_symbolic_shape=True)
        self.parts: Sequence[Part] = parts_of(onnx.load(str(self._prepared)))

    def __enter__(self) -> "StaticQuantiser":
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the files."""
        self._folder.cleanup()

    def quantised(self, kept: Collection[str] = (), bits: WeightBits = 7) -> onnx.ModelProto:
        """Return the graph in QDQ form.

        Args:
            kept: names of nodes that stay in fp32.
            bits: of a weight. With 8, processors without VNNI instructions need ONNX Runtime's
                exact kernel, which is slower than fp32 there; with 7 nothing can overflow.
        """
        result = self._file("int8")
        with quiet():
            quantize_static(
                str(self._prepared),
                str(result),
                _Batches(self._calibration),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                nodes_to_exclude=list(kept),
                calibrate_method=self._method,
                calibration_cache_path=self._file("ranges"),
                reduce_range=bits == 7,
                extra_options={"CalibMovingAverage": False},
            )
        made = onnx.load(str(result))
        del made.metadata_props[:]
        made.metadata_props.extend(self._metadata)
        return made

    def _file(self, name: str) -> Path:
        return Path(self._folder.name, f"{name}.onnx")


def parts_of(model: onnx.ModelProto) -> Sequence[Part]:
    """Return a graph's parts, in its order.

    A part is a product with constant weights and what is computed from it before the next one.
    What no product comes after, such as a detector's box arithmetic, is the part `AFTER`.
    """
    graph = model.graph
    constants = {one.name for one in graph.initializer}
    products = {
        node.name
        for node in graph.node
        if node.op_type in PRODUCTS and any(name in constants for name in node.input[1:2])
    }
    needed: set[str] = set()  # tensors that a product is computed from
    for node in reversed(graph.node):
        if node.name in products or needed.intersection(node.output):
            needed.update(node.input)
    order = {node.name: at for at, node in enumerate(graph.node)}
    owner: dict[str, str] = {}  # of a tensor: the latest product that it is computed from
    members: dict[str, list[str]] = {}
    for node in graph.node:
        owners = [owner[name] for name in node.input if name in owner]
        of = node.name if node.name in products else max(owners, key=order.__getitem__, default="")
        if of:
            owner.update(dict.fromkeys(node.output, of))
        is_last = node.name not in products and not needed.intersection(node.output)
        members.setdefault(AFTER if is_last else of, []).append(node.name)
    return [Part(name, tuple(nodes)) for name, nodes in members.items() if name]


def quantise_statically(
    model: onnx.ModelProto,
    calibration: Iterable[Feeds],
    *,
    excluded: Collection[str] = (),
    method: CalibrationMethod = CalibrationMethod.MinMax,
) -> onnx.ModelProto:
    """Return a copy in QDQ form: weights of seven bits a channel, uint8 activations.

    Args:
        model: a graph with fp32 initialisers, batch norms folded.
        calibration: batches of feeds that look like what will be served.
        excluded: names of nodes to leave in fp32 (often the last ones).
        method: how ranges are chosen from the calibration batches.
    """
    with StaticQuantiser(model, calibration, method) as quantiser:
        return quantiser.quantised(excluded)
