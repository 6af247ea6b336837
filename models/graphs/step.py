"""One step of a translator's decoder, for sentences that are each at another place.

The caches of all running sentences are preallocated, a row a hypothesis. The graph changes them
in place: `present.X` must be bound to the memory of `X`.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto

from models.graphs.parts import (
    ResidualStream,
    expanded,
    scaled_and_projected,
    side_by_side,
)
from models.graphs.token_choice import TokenChoice, in_whole_blocks
from models.graphs.translator_weights import Attention, TranslatorWeights
from models.graphs.writer import Arithmetic, GraphWriter, Shape


def cache_names(prefix: str, layers: int) -> list[str]:
    """``prefix.0.key``, ``prefix.0.value``, ``prefix.1.key``, ..."""
    return [f"{prefix}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def step_graph(weights: TranslatorWeights, arithmetic: Arithmetic = "fp32") -> onnx.ModelProto:
    """Write one more token of each of the first n rows of the caches.

    Inputs: ``tokens`` [n], the last token of each row; ``positions`` [n], how many tokens it has
    cached; ``source_lengths`` [n]; ``longest`` and ``longest_source``, the largest positions + 1
    and the largest source length; ``candidates`` [1], how many next tokens to return for each
    row, best first; the caches ``self.*`` [n, H, P, D] and ``cross.*`` [n, H, S, D].

    Outputs: ``ids``, ``logprobs`` and ``scores`` [n, candidates], and the caches. With one,
    ``logprobs`` is that token's score before normalisation, which greedy search has no use for.
    """
    return _StepGraph(weights, arithmetic).build()


class _StepGraph:
    def __init__(self, weights: TranslatorWeights, arithmetic: Arithmetic) -> None:
        weights = in_whole_blocks(weights)
        self._weights, self._writer = weights, GraphWriter(arithmetic)
        writer = self._writer
        self._tokens = writer.input("tokens", np.int64, ["rows"])
        self._positions = writer.input("positions", np.int32, ["rows"])
        source_lengths = writer.input("source_lengths", np.int32, ["rows"])
        self._longest = writer.input("longest", np.int32, [])
        self._longest_source = writer.input("longest_source", np.int32, [])
        self._candidates = writer.input("candidates", np.int64, [1])
        for prefix, axis in (("self", "target"), ("cross", "source")):
            axes: Shape = ["rows", weights.heads, axis, weights.head_width]
            for name in cache_names(prefix, len(weights.decoder_layers)):
                writer.input(name, writer.float_type, axes)
                writer.output(f"present.{name}", writer.float_type, axes)
        self._flat = writer.integers([-1, weights.heads * weights.head_width])
        self._last = writer.node("Sub", [source_lengths, writer.integers(1, np.int32)])
        self._bias = self._distance_bias()
        self._nothing = ""
        """A sequence of no tokens for every row."""

    def build(self) -> onnx.ModelProto:
        writer, weights = self._writer, self._weights
        stream = ResidualStream(writer, weights.norm_first, self._embedded())
        for index, layer in enumerate(weights.decoder_layers):
            mixed = self._own(index, stream.enter(layer.attention_norm), layer.attention)
            stream.leave(mixed, layer.attention.output, layer.attention_norm)
            mixed = self._cross(index, stream.enter(layer.cross_norm), layer.cross)
            stream.leave(mixed, layer.cross.output, layer.cross_norm)
            hidden = expanded(writer, stream.enter(layer.feed_forward_norm), layer.feed_forward)
            stream.leave(hidden, layer.feed_forward.contract, layer.feed_forward_norm)
        states = self._scored(stream.end(weights.decoder.final_norm))
        TokenChoice(writer, weights.output, self._candidates).write(states)
        return writer.model("step")

    def _embedded(self) -> str:
        writer, embedding = self._writer, self._weights.decoder.embedding
        looked_up = writer.lookup(embedding.table, self._tokens)
        states = scaled_and_projected(writer, embedding, looked_up)
        if embedding.positions is not None:
            places = [writer.constant(embedding.positions), self._positions]
            states = writer.node("Add", [states, writer.node("Gather", places)])
        return states if embedding.norm is None else writer.norm(states, embedding.norm)

    def _distance_bias(self) -> str:
        """Return [n, H, 1, longest], or no name where attention does not look at distances."""
        writer, distances = self._writer, self._weights.decoder.distances
        if distances is None:
            return ""
        end = writer.node("Cast", [self._longest], to=TensorProto.INT64)
        places = writer.node("Range", [writer.integers(0), end, writer.integers(1)])
        own = writer.node("Cast", [self._positions], to=TensorProto.INT64)
        own = writer.node("Unsqueeze", [own, writer.integers([1])])
        back = writer.node("Sub", [own, places])
        furthest = writer.integers(len(distances) - 1)
        back = writer.node("Clip", [back, writer.integers(0), furthest])
        values = writer.node("Gather", [writer.constant(distances), back])
        ordered = writer.node("Transpose", [values], perm=[0, 2, 1])
        return writer.node("Unsqueeze", [ordered, writer.integers([2])])

    def _own(self, index: int, states: str, attention: Attention) -> str:
        """Attend to what the row has written; how far that goes, its position says."""
        merged = side_by_side([attention.query, attention.key, attention.value])
        packed = self._as_sequence(self._writer.linear(states, merged))
        lengths = (self._positions, self._longest)
        return self._attended(f"self.{index}", [packed, "", ""], lengths, self._bias)

    def _cross(self, index: int, states: str, attention: Attention) -> str:
        """Attend to the source, as far as it goes; no keys are new."""
        writer = self._writer
        query = self._as_sequence(writer.linear(states, attention.query))
        if not self._nothing:
            zero, one = writer.integers([0]), writer.integers([1])
            self._nothing = writer.node("Slice", [query, zero, zero, one])
        lengths = (self._last, self._longest_source)
        nothing = [self._nothing, self._nothing]
        return self._attended(f"cross.{index}", [query, *nothing], lengths, "")

    def _as_sequence(self, rows: str) -> str:
        """Return rows [n, width] as sequences of one [n, 1, width]."""
        return self._writer.node("Unsqueeze", [rows, self._writer.integers([1])])

    def _attended(
        self, cache: str, inputs: Sequence[str], lengths: tuple[str, str], bias: str
    ) -> str:
        caches = [f"{cache}.key", f"{cache}.value"]
        mixed = f"{cache}.mixed"
        self._writer.nodes_with(
            "fused:GroupQueryAttention",
            [*inputs, *caches, *lengths, *(["", "", "", bias] if bias else [])],
            [mixed, *(f"present.{name}" for name in caches)],
            num_heads=self._weights.heads,
            kv_num_heads=self._weights.heads,
            scale=self._weights.attention_scale,
        )
        return self._writer.node("Reshape", [mixed, self._flat])

    def _scored(self, states: str) -> str:
        """Return the states that the output's table turns into scores."""
        writer, output = self._writer, self._weights.output
        if output.projection is not None:
            states = writer.linear(states, output.projection)
        if output.scale != 1.0:
            states = writer.node("Mul", [states, writer.constant(np.float32(output.scale))])
        return states
