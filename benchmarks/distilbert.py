"""A text classifier of DistilBERT's size, with random weights.

6 layers, 768 wide, 12 heads, 3072 in between, 30,522 words: 66 M parameters. Speed does not
depend on what the weights are, so none are downloaded.
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from benchmarks.graph_builder import MICROSOFT, GraphBuilder

_EPSILON = 1e-12
_BLOCK = 128


class Arithmetic(StrEnum):
    """How matrices are stored and multiplied."""

    FP32 = "fp32"
    INT8 = "int8"
    """Weights int8 with a scale per block, activations quantised row by row (MatMulNBits)."""


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


def text_classifier(
    arithmetic: Arithmetic, size: EncoderSize = EncoderSize(), block: int = _BLOCK, seed: int = 0
) -> onnx.ModelProto:
    """Return a graph of input_ids, attention_mask [B,T] -> logits [B,labels]."""
    encoder = _Encoder(GraphBuilder(seed), arithmetic, size, block)
    return encoder.build()


@dataclass(frozen=True, slots=True)
class _Encoder:
    graph: GraphBuilder
    arithmetic: Arithmetic
    size: EncoderSize
    block: int

    def build(self) -> onnx.ModelProto:
        graph, size = self.graph, self.size
        ids = graph.input("input_ids", TensorProto.INT64, ("batch", "tokens"))
        mask = graph.input("attention_mask", TensorProto.INT64, ("batch", "tokens"))
        mask = graph.node("Cast", [mask], to=TensorProto.INT32)
        hidden = self._embed(ids)
        for _ in range(size.layers):
            hidden = self._layer(hidden, mask)
        first = graph.node("Gather", [hidden, graph.weight(np.array(0, np.int64))], axis=1)
        pooled = graph.node("Relu", [self._linear(first, size.width, size.width)])
        last = graph.matmul(pooled, graph.normal((size.width, size.labels), 0.2))
        bias = graph.weight(np.zeros(size.labels, np.float32))
        graph.name(graph.node("Add", [last, bias]), "logits")
        return graph.model("logits", ("batch", size.labels))

    def _embed(self, ids: str) -> str:
        graph, size = self.graph, self.size
        words = self._look_up(ids, graph.normal((size.words, size.width), 0.5))
        table = graph.weight(graph.normal((size.positions, size.width), 0.5))
        zero, one = (graph.weight(np.array([value], np.int64)) for value in (0, 1))
        length = graph.node("Shape", [ids], start=1, end=2)
        positions = graph.node("Slice", [table, zero, length, zero, one])
        return graph.node(
            "LayerNormalization",
            [graph.node("Add", [words, positions]), *self._norm_weights()],
            axis=-1,
            epsilon=_EPSILON,
        )

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
        packed = self._linear(hidden, size.width, 3 * size.width)
        query, key, value = graph.nodes("Split", [packed], 3, axis=-1, num_outputs=3)
        attended = graph.node(
            "MultiHeadAttention",
            [query, key, value, "", mask],
            MICROSOFT,
            num_heads=size.heads,
        )
        hidden = self._add_and_norm(self._linear(attended, size.width, size.width), hidden)
        inner = graph.node("Gelu", [self._linear(hidden, size.width, size.inner)])
        return self._add_and_norm(self._linear(inner, size.inner, size.width), hidden)

    def _linear(self, tensor: str, inputs: int, outputs: int) -> str:
        graph = self.graph
        values = graph.normal((inputs, outputs), inputs**-0.5)
        bias = np.zeros(outputs, np.float32)
        if self.arithmetic is Arithmetic.INT8:
            return graph.int8_matmul(tensor, values, bias, self.block)
        return graph.node("Add", [graph.matmul(tensor, values), graph.weight(bias)])

    def _add_and_norm(self, tensor: str, skip: str) -> str:
        return self.graph.node(
            "SkipLayerNormalization",
            [tensor, skip, *self._norm_weights()],
            MICROSOFT,
            epsilon=_EPSILON,
        )

    def _norm_weights(self) -> tuple[str, str]:
        width = self.size.width
        graph = self.graph
        return graph.weight(np.ones(width, np.float32)), graph.weight(np.zeros(width, np.float32))
