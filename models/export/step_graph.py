"""One step of a translator's decoder, for sentences that are each at another place.

The caches of all running sentences are preallocated, a row a hypothesis. The graph changes them
in place: `present.X` must be bound to the memory of `X`.
"""

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import TensorProto

from models.export.graph_parts import (
    ResidualStream,
    feed_forward,
    scaled_and_projected,
    side_by_side,
)
from models.export.graph_writer import Arithmetic, GraphWriter, Shape
from models.export.translator_weights import Attention, Floats, Output, TranslatorWeights


def cache_names(prefix: str, layers: int) -> list[str]:
    """``prefix.0.key``, ``prefix.0.value``, ``prefix.1.key``, ..."""
    return [f"{prefix}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def step_graph(weights: TranslatorWeights, arithmetic: Arithmetic = "fp32") -> onnx.ModelProto:
    """Write one more token of each of the first n rows of the caches.

    Inputs: ``tokens`` [n], the last token of each row; ``positions`` [n], how many tokens it has
    cached; ``source_lengths`` [n]; ``longest`` and ``longest_source``, the largest positions + 1
    and the largest source length; ``candidates`` [1], how many next tokens to return for each
    row, best first; the caches ``self.*`` [n, H, P, D] and ``cross.*`` [n, H, S, D].

    Outputs: ``ids`` and ``logprobs`` [n, candidates], and the caches. With one candidate,
    ``logprobs`` is that token's score before normalisation, which greedy search has no use for.
    """
    return _StepGraph(weights, arithmetic).build()


class _StepGraph:
    def __init__(self, weights: TranslatorWeights, arithmetic: Arithmetic) -> None:
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
        last = writer.node("Cast", [self._last], to=TensorProto.INT64)
        column = writer.node("Unsqueeze", [last, writer.integers([1, 2])])
        heads = writer.integers([1, weights.heads, 1])
        self._last_of_heads = writer.node("Expand", [column, heads])
        self._bias = self._distance_bias()

    def build(self) -> onnx.ModelProto:
        writer, weights = self._writer, self._weights
        stream = ResidualStream(writer, weights.norm_first, self._embedded())
        for index, layer in enumerate(weights.decoder_layers):
            states = stream.enter(layer.attention_norm)
            stream.leave(self._own(index, states, layer.attention), layer.attention_norm)
            states = stream.enter(layer.cross_norm)
            stream.leave(self._cross(index, states, layer.cross), layer.cross_norm)
            states = stream.enter(layer.feed_forward_norm)
            stream.leave(feed_forward(writer, states, layer.feed_forward), layer.feed_forward_norm)
        self._choose(self._scored(stream.end(weights.decoder.final_norm)))
        return writer.model("step")

    def _embedded(self) -> str:
        writer, embedding = self._writer, self._weights.decoder.embedding
        is_tied = self._weights.output.table is embedding.table
        look_up = writer.tied_lookup if is_tied else writer.lookup
        states = scaled_and_projected(writer, embedding, look_up(embedding.table, self._tokens))
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
        mixed = self._attended(f"self.{index}", [packed, "", ""], lengths, self._bias)
        return self._writer.linear(mixed, attention.output)

    def _cross(self, index: int, states: str, attention: Attention) -> str:
        """Attend to the source, as far as it goes.

        The operator appends a key to the cache: it is given the source's last one, which so is
        written over itself.
        """
        query = self._as_sequence(self._writer.linear(states, attention.query))
        last = [self._last_cached(f"cross.{index}.{part}") for part in ("key", "value")]
        lengths = (self._last, self._longest_source)
        mixed = self._attended(f"cross.{index}", [query, *last], lengths, "")
        return self._writer.linear(mixed, attention.output)

    def _last_cached(self, cache: str) -> str:
        parts = self._writer.node("GatherND", [cache, self._last_of_heads], batch_dims=2)
        return self._as_sequence(self._writer.node("Reshape", [parts, self._flat]))

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

    def _choose(self, states: str) -> None:
        """Choose tokens here, so that no scores of a whole vocabulary leave the session."""
        writer, output = self._writer, self._weights.output
        product = writer.tied_product(states, output.table, _without_forbidden(output))
        logits = writer.as_float32(product)
        forbidden, last_axis = self._logits_of_forbidden(states), writer.integers([-1])
        one, several = GraphWriter(), GraphWriter()
        one.node("ArgMax", [logits], "one.ids", axis=1, keepdims=1)
        one.node("GatherElements", [logits, "one.ids"], "one.scores", axis=1)
        several.nodes_with("TopK", [logits, self._candidates], ["top.scores", "top.ids"], axis=1)
        several.node("LogSoftmax", [logits], "top.all", axis=1)
        several.node("GatherElements", ["top.all", "top.ids"], "top.allowed", axis=1)
        _count_forbidden(several, forbidden, last_axis, "top.logprobs")
        count = writer.node("Squeeze", [self._candidates, writer.integers([0])])
        axes = ["rows", "candidates"]
        writer.nodes_with(
            "If",
            [writer.node("Greater", [count, writer.integers(1)])],
            [writer.output("ids", np.int64, axes), writer.output("logprobs", np.float32, axes)],
            then_branch=several.branch("several", ["top.ids", "top.logprobs"]),
            else_branch=one.branch("one", ["one.ids", "one.scores"]),
        )

    def _logits_of_forbidden(self, states: str) -> str:
        """Return [n, forbidden], or no name where nothing is forbidden."""
        writer, output = self._writer, self._weights.output
        if not output.forbidden:
            return ""
        tokens = sorted(output.forbidden)
        writer.metadata["forbidden"] = ",".join(map(str, tokens))
        rows = np.ascontiguousarray(output.table[tokens].T)
        inputs = [states, writer.constant(rows)]
        if output.bias is not None:
            inputs.append(writer.constant(output.bias[tokens]))
        return writer.as_float32(writer.node("Gemm", inputs))


def _without_forbidden(output: Output) -> Floats | None:
    """Return the bias with which forbidden tokens are never the best."""
    if not output.forbidden:
        return output.bias
    bias = np.zeros(len(output.table), np.float32) if output.bias is None else output.bias.copy()
    bias[list(output.forbidden)] = -np.inf
    return bias


def _count_forbidden(writer: GraphWriter, logits: str, last_axis: str, result: str) -> None:
    """Turn the best tokens' log-probabilities among those allowed into those among all.

    The sum over those allowed is their logit minus their log-probability.
    """
    if not logits:
        writer.node("Identity", ["top.allowed"], result)
        return
    writer.node("Sub", ["top.scores", "top.allowed"], "top.sum")
    writer.node("ReduceLogSumExp", [logits, last_axis], "top.forbidden")
    writer.node("Sub", ["top.forbidden", "top.sum"], "top.ratio")
    writer.node("Softplus", ["top.ratio"], "top.more")
    writer.node("Sub", ["top.allowed", "top.more"], result)
