"""A text classifier of DistilBERT's size, with random weights.

6 layers, 768 wide, 12 heads, 3072 in between, 30,522 words: 66 M parameters. Its speed does not
depend on what the weights are, so none are downloaded.
"""

import logging
import tempfile
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.graph_builder import MICROSOFT, GraphBuilder, save

_EPSILON = 1e-12
_BLOCK = 128


class Arithmetic(StrEnum):
    """How matrices are stored and multiplied."""

    FP32 = "fp32"
    ROWS = "rows"
    """int8 by int8, activations quantised row by row: answers do not depend on neighbours."""
    BLOCKS = "blocks"
    """`MatMulNBits`: weights int8 by blocks, activations quantised row by row in the kernel."""
    DYNAMIC = "dynamic"
    """What `onnxruntime.quantization.quantize_dynamic` makes: one scale over the whole batch."""


@dataclass(frozen=True, slots=True)
class EncoderSize:
    """Sizes of a Transformer encoder."""

    layers: int = 6
    width: int = 768
    heads: int = 12
    inner: int = 3072
    words: int = 30_522
    positions: int = 512
    labels: int = 4


DISTILBERT = EncoderSize()


def text_classifier(
    arithmetic: Arithmetic, size: EncoderSize = DISTILBERT, seed: int = 0
) -> onnx.ModelProto:
    """Return a graph of input_ids, attention_mask int64 [B,T] -> logits fp32 [B,labels]."""
    if arithmetic is Arithmetic.DYNAMIC:
        return _quantised_dynamically(text_classifier(Arithmetic.FP32, size, seed))
    return _Encoder(GraphBuilder(seed), arithmetic, size).build()


def _quantised_dynamically(model: onnx.ModelProto) -> onnx.ModelProto:
    logging.getLogger().setLevel(logging.ERROR)  # it warns of a step that changes nothing here
    with tempfile.TemporaryDirectory() as folder:
        original, quantised = Path(folder, "fp32.onnx"), Path(folder, "int8.onnx")
        save(model, original)
        quantize_dynamic(
            original,
            quantised,
            weight_type=QuantType.QInt8,
            per_channel=True,
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
        return onnx.load(str(quantised))


@dataclass(frozen=True, slots=True)
class _Encoder:
    graph: GraphBuilder
    arithmetic: Arithmetic
    size: EncoderSize

    def build(self) -> onnx.ModelProto:
        graph, size = self.graph, self.size
        ids = graph.input("input_ids", TensorProto.INT64, ("batch", "tokens"))
        mask = graph.input("attention_mask", TensorProto.INT64, ("batch", "tokens"))
        mask = graph.node("Cast", [mask], to=TensorProto.INT32)
        hidden = self._embed(ids)
        for _ in range(size.layers):
            hidden = self._layer(hidden, mask)
        first = graph.node("Gather", [hidden, graph.weight(np.array(0, np.int64))], axis=1)
        biased = graph.node("Add", [self._matmul(first, size.width, size.width), self._bias()])
        logits = graph.matmul(graph.node("Relu", [biased]), graph.normal((size.width, 4), 0.2))
        graph.output(logits, "logits", ("batch", size.labels))
        return graph.model()

    def _embed(self, ids: str) -> str:
        graph, size = self.graph, self.size
        words = self._look_up(ids, graph.normal((size.words, size.width), 0.5))
        table = graph.weight(graph.normal((size.positions, size.width), 0.5))
        length = graph.node("Shape", [ids], start=1, end=2)
        begin, axis, step = graph.integers(0), graph.integers(0), graph.integers(1)
        positions = graph.node("Slice", [table, begin, length, axis, step])
        summed = graph.node("Add", [words, positions])
        weights = (graph.weight(np.ones(size.width, np.float32)), self._bias())
        return graph.node("LayerNormalization", [summed, *weights], axis=-1, epsilon=_EPSILON)

    def _look_up(self, ids: str, table: NDArray[np.float32]) -> str:
        graph = self.graph
        if self.arithmetic is Arithmetic.FP32:
            return graph.node("Gather", [graph.weight(table), ids])
        scales = np.abs(table).max(axis=1, keepdims=True) / 127
        rows = graph.weight(np.round(table / scales).astype(np.int8))
        row = graph.node("Cast", [graph.node("Gather", [rows, ids])], to=TensorProto.FLOAT)
        scale = graph.node("Gather", [graph.weight(scales.astype(np.float32)), ids])
        return graph.node("Mul", [row, scale])

    def _layer(self, hidden: str, mask: str) -> str:
        graph, size = self.graph, self.size
        packed = self._matmul(hidden, size.width, 3 * size.width)
        query, key, value = graph.nodes("Split", [packed], 3, axis=-1, num_outputs=3)
        attended = graph.node(
            "MultiHeadAttention",
            [query, key, value, self._bias(3 * size.width), mask],
            MICROSOFT,
            num_heads=size.heads,
        )
        hidden = self._add_and_norm(self._matmul(attended, size.width, size.width), hidden)
        inner = self._matmul(hidden, size.width, size.inner)
        inner = graph.node("BiasGelu", [inner, self._bias(size.inner)], MICROSOFT)
        return self._add_and_norm(self._matmul(inner, size.inner, size.width), hidden)

    def _matmul(self, tensor: str, inputs: int, outputs: int) -> str:
        matrix = self.graph.normal((inputs, outputs), inputs**-0.5)
        match self.arithmetic:
            case Arithmetic.ROWS:
                return self.graph.matmul_by_rows(tensor, matrix)
            case Arithmetic.BLOCKS:
                return self.graph.matmul_by_blocks(tensor, matrix, _BLOCK)
            case _:
                return self.graph.matmul(tensor, matrix)

    def _add_and_norm(self, tensor: str, skip: str) -> str:
        ones = self.graph.weight(np.ones(self.size.width, np.float32))
        inputs = [tensor, skip, ones, self._bias(), self._bias()]
        return self.graph.node("SkipLayerNormalization", inputs, MICROSOFT, epsilon=_EPSILON)

    def _bias(self, width: int | None = None) -> str:
        return self.graph.weight(np.zeros(width or self.size.width, np.float32))
