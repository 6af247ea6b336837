"""Parts that the encoder's and the decoder's graphs have alike."""

from collections.abc import Sequence

import numpy as np

from models.graphs.translator_weights import Embedding, FeedForward, Floats, Linear, Norm, Stack
from models.graphs.writer import GraphWriter


class ResidualStream:
    """What runs through a stack and every part adds to, with norms before or after the parts."""

    def __init__(self, writer: GraphWriter, norm_first: bool, states: str) -> None:
        self._writer, self._norm_first, self._states = writer, norm_first, states
        self._more = ""
        self._bias: Floats | None = None
        """The last part's result and its bias, not added yet: with the next norm the sum of all
        is one operator."""

    def enter(self, norm: Norm) -> str:
        """Return what the next part reads."""
        if not self._norm_first:
            return self._states
        if not self._more:
            return self._writer.norm(self._states, norm)
        normed, self._states = self._added(norm, True)
        return normed

    def leave(self, last: str, layer: Linear, norm: Norm) -> None:
        """Take a part's result in: its last states through its last layer."""
        self._more, self._bias = self._writer.product(last, layer.weight, None), layer.bias
        if not self._norm_first:
            self._states, _ = self._added(norm, False)

    def end(self, norm: Norm | None) -> str:
        """Return the stack's result, normalised if there is a norm."""
        if norm is not None and self._more:
            return self._added(norm, False)[0]
        if self._more:
            self._states = self._writer.node("Add", [self._states, self._more])
            if self._bias is not None:
                bias = self._writer.constant(self._bias)
                self._states = self._writer.node("Add", [self._states, bias])
        return self._states if norm is None else self._writer.norm(self._states, norm)

    def _added(self, norm: Norm, total: bool) -> tuple[str, str]:
        found = self._writer.add_and_norm(self._states, self._more, norm, self._bias, total)
        self._more, self._bias = "", None
        return found


def scaled_and_projected(writer: GraphWriter, embedding: Embedding, rows: str) -> str:
    """Return rows of the embedding's table as the network's states, without positions."""
    if embedding.scale != 1.0:
        rows = writer.node("Mul", [rows, writer.constant(np.float32(embedding.scale))])
    return rows if embedding.projection is None else writer.linear(rows, embedding.projection)


def expanded(writer: GraphWriter, states: str, layer: FeedForward) -> str:
    """Transform each row alone, up to the last layer."""
    hidden = writer.activate(writer.linear(states, layer.expand), layer.activation)
    if layer.gate is not None:
        hidden = writer.node("Mul", [hidden, writer.linear(states, layer.gate)])
    return hidden


def side_by_side(layers: Sequence[Linear]) -> Linear:
    """Return one layer whose outputs are those of several, one after the other."""
    weight = np.concatenate([layer.weight for layer in layers], axis=1)
    if all(layer.bias is None for layer in layers):
        return Linear(weight)
    biases = [
        np.zeros(layer.weight.shape[1], np.float32) if layer.bias is None else layer.bias
        for layer in layers
    ]
    return Linear(weight, np.concatenate(biases))


def encoder_distance_bias(writer: GraphWriter, stack: Stack, places: str) -> str:
    """Return [1, H, S, S], or no name where the stack does not look at distances."""
    if stack.distances is None:
        return ""
    middle = writer.integers(len(stack.distances) // 2)
    keys = writer.node("Unsqueeze", [places, writer.integers([0])])
    queries = writer.node("Unsqueeze", [places, writer.integers([1])])
    index = writer.node("Add", [writer.node("Sub", [keys, queries]), middle])
    last = writer.integers(len(stack.distances) - 1)
    index = writer.node("Clip", [index, writer.integers(0), last])
    values = writer.node("Gather", [writer.constant(stack.distances), index])
    ordered = writer.node("Transpose", [values], perm=[2, 0, 1])
    return writer.node("Unsqueeze", [ordered, writer.integers([0])])
