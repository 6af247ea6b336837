"""The encoder of a translator, with the cross-attention projections of all decoder layers."""

import numpy as np
import onnx

from models.graphs.parts import (
    ResidualStream,
    encoder_distance_bias,
    expanded,
    scaled_and_projected,
    side_by_side,
)
from models.graphs.step import cache_names
from models.graphs.translator_weights import Attention, Embedding, EncoderLayer, TranslatorWeights
from models.graphs.writer import Arithmetic, GraphWriter, Shape


def encoder_graph(weights: TranslatorWeights, arithmetic: Arithmetic = "fp32") -> onnx.ModelProto:
    """``input_ids``, ``attention_mask`` [B, S] -> ``cross.{i}.key``, ``.value`` [B, H, S, D]."""
    return _EncoderGraph(weights, arithmetic).build()


class _EncoderGraph:
    """Tokens of the whole batch are rows [B * S, width]; attention sees [B, S, width]."""

    def __init__(self, weights: TranslatorWeights, arithmetic: Arithmetic) -> None:
        self._weights, self._writer = weights, GraphWriter(arithmetic)
        writer, axes = self._writer, ["batch", "source"]
        self._ids = writer.input("input_ids", np.int64, axes)
        mask = writer.input("attention_mask", np.int64, axes)
        self._mask = writer.node("Cast", [mask], to=onnx.TensorProto.INT32)
        self._shape = writer.node("Shape", [self._ids])
        width = weights.heads * weights.head_width
        self._sentences = self._shaped([-1])
        self._rows = writer.integers([-1, width])
        length = writer.node("Gather", [self._shape, writer.integers(1)])
        self._places = writer.node("Range", [writer.integers(0), length, writer.integers(1)])

    def build(self) -> onnx.ModelProto:
        writer, weights = self._writer, self._weights
        stream = ResidualStream(writer, weights.norm_first, self._embedded())
        bias = encoder_distance_bias(writer, weights.encoder, self._places)
        for layer in weights.encoder_layers:
            self._add(stream, layer, bias)
        self._project(stream.end(weights.encoder.final_norm))
        return writer.model("encoder")

    def _embedded(self) -> str:
        writer, embedding = self._writer, self._weights.encoder.embedding
        ids = writer.node("Reshape", [self._ids, writer.integers([-1])])
        states = scaled_and_projected(writer, embedding, writer.lookup(embedding.table, ids))
        if embedding.positions is not None:
            states = self._placed(states, embedding)
        return states if embedding.norm is None else writer.norm(states, embedding.norm)

    def _placed(self, states: str, embedding: Embedding) -> str:
        writer = self._writer
        added = writer.node("Gather", [writer.constant(embedding.positions), self._places])
        sentences = writer.node("Reshape", [states, self._sentences])
        return writer.node("Reshape", [writer.node("Add", [sentences, added]), self._rows])

    def _add(self, stream: ResidualStream, layer: EncoderLayer, bias: str) -> None:
        writer, attention, feed_forward = self._writer, layer.attention, layer.feed_forward
        mixed = self._mixed(stream.enter(layer.attention_norm), attention, bias)
        stream.leave(mixed, attention.output, layer.attention_norm)
        hidden = expanded(writer, stream.enter(layer.feed_forward_norm), feed_forward)
        stream.leave(hidden, feed_forward.contract, layer.feed_forward_norm)

    def _mixed(self, states: str, attention: Attention, bias: str) -> str:
        writer = self._writer
        merged = side_by_side([attention.query, attention.key, attention.value])
        packed = writer.node("Reshape", [writer.linear(states, merged), self._sentences])
        parts = writer.parted(packed, [f"{packed}.{part}" for part in "qkv"], axis=2)
        heads, scale = self._weights.encoder_attention
        mixed = writer.node(
            "fused:MultiHeadAttention",
            [*parts, "", self._mask, *([bias] if bias else [])],
            num_heads=heads,
            scale=scale,
            mask_filter_value=float(np.finfo(writer.float_type).min),
        )
        return writer.node("Reshape", [mixed, self._rows])

    def _project(self, states: str) -> None:
        writer, heads = self._writer, self._weights.heads
        layers = self._weights.decoder_layers
        merged = side_by_side(
            [part for each in layers for part in (each.cross.key, each.cross.value)]
        )
        parted = self._shaped([-1, self._weights.head_width])
        split = writer.node("Reshape", [writer.linear(states, merged), parted])
        turned = writer.node("Transpose", [split], perm=[0, 2, 1, 3])
        axes: Shape = ["batch", heads, "source", self._weights.head_width]
        names = cache_names("cross", len(layers))
        writer.parted(turned, [writer.output(n, writer.float_type, axes) for n in names], axis=1)

    def _shaped(self, last: list[int]) -> str:
        """Return the shape [B, S, *last]."""
        return self._writer.node("Concat", [self._shape, self._writer.integers(last)], axis=0)
