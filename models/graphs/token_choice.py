"""The choice of the next tokens, within the graph: no scores of a whole vocabulary leave a session.

The vocabulary is looked at in blocks: first the best of each, which is one fast pass, then only
the blocks that hold the best. ArgMax and TopK of onnxruntime over a whole row take several times
as long, and find the same tokens, in the same order.
"""

from dataclasses import replace

import numpy as np

from models.graphs.translator_weights import Floats, Output, TranslatorWeights
from models.graphs.writer import GraphWriter

BLOCK = 64


def in_whole_blocks(weights: TranslatorWeights) -> TranslatorWeights:
    """Return weights of a vocabulary that is filled up, with tokens that are never the best."""
    output, embedding = weights.output, weights.decoder.embedding
    missing = -len(output.table) % BLOCK
    if not missing:
        return weights
    table = np.concatenate([output.table, np.zeros_like(output.table[:1]).repeat(missing, axis=0)])
    bias = np.zeros(len(output.table), np.float32) if output.bias is None else output.bias
    bias = np.concatenate([bias, np.full(missing, -np.inf, np.float32)])
    if output.table is embedding.table:  # tied: it stays the very same array
        decoder = replace(weights.decoder, embedding=replace(embedding, table=table))
        weights = replace(weights, decoder=decoder)
    return replace(weights, output=replace(output, table=table, bias=bias))


class TokenChoice:
    """Writes what turns states into ``ids``, ``logprobs`` and ``scores`` [n, candidates]."""

    def __init__(self, writer: GraphWriter, output: Output, candidates: str) -> None:
        self._writer, self._output, self._candidates = writer, output, candidates

    def write(self, states: str) -> None:
        """Declare and write the outputs; the vocabulary must be in whole blocks."""
        writer, output = self._writer, self._output
        product = writer.tied_product(states, output.table, _without_forbidden(output))
        logits = writer.as_float32(product)
        forbidden = self._logits_of_forbidden(states)
        shape = writer.integers([0, len(output.table) // BLOCK, BLOCK])
        blocks = writer.node("Reshape", [logits, shape])
        best = writer.node("ReduceMax", [blocks, writer.integers([2])], keepdims=0)
        axes = ["rows", "candidates"]
        writer.nodes_with(
            "If",
            [writer.node("Greater", [self._candidates, writer.integers([1])])],
            [
                writer.output("ids", np.int64, axes),
                writer.output("logprobs", np.float32, axes),
                writer.output("scores", np.float32, axes),
            ],
            then_branch=self._several(logits, blocks, best, forbidden).branch(
                "several", ["top.ids", "top.logprobs", "top.scores"]
            ),
            else_branch=_one(blocks, best).branch("one", ["one.ids", "one.best", "one.scores"]),
        )

    def _several(self, logits: str, blocks: str, best: str, forbidden: str) -> GraphWriter:
        several = GraphWriter(prefix="several.")
        held = several.node("Shape", [best], start=1)
        wanted = several.node("Min", [self._candidates, held])
        several.nodes_with("TopK", [best, wanted], ["top.best", "top.unordered"], axis=1)
        # Of tokens that are equally good the first one counts, so blocks stay in their order.
        several.nodes_with(
            "TopK", ["top.unordered", wanted], ["top.blocks", "top.order"], axis=1, largest=0
        )
        index = several.node("Unsqueeze", ["top.blocks", several.integers([2])])
        held = several.node("GatherND", [blocks, index], batch_dims=1)
        held = several.node("Reshape", [held, several.integers([0, -1])])
        several.nodes_with("TopK", [held, self._candidates], ["top.scores", "top.places"], axis=1)
        size = several.integers(BLOCK)
        block = several.node("Div", ["top.places", size])
        block = several.node("GatherElements", ["top.blocks", block], axis=1)
        within = several.node("Mod", ["top.places", size])
        several.node("Add", [several.node("Mul", [block, size]), within], "top.ids")
        several.node("LogSoftmax", [logits], "top.all", axis=1)
        several.node("GatherElements", ["top.all", "top.ids"], "top.allowed", axis=1)
        _count_forbidden(several, forbidden)
        return several

    def _logits_of_forbidden(self, states: str) -> str:
        """Return [n, forbidden], or no name where no probability is lost to them."""
        writer, output = self._writer, self._output
        if not output.forbidden:
            return ""
        tokens = sorted(output.forbidden)
        writer.metadata["forbidden"] = ",".join(map(str, tokens))
        if output.renormalizes:
            writer.metadata["renormalized"] = "true"
            return ""
        rows = np.ascontiguousarray(output.table[tokens].T)
        inputs = [states, writer.constant(rows)]
        if output.bias is not None:
            inputs.append(writer.constant(output.bias[tokens]))
        return writer.as_float32(writer.node("Gemm", inputs))


def _one(blocks: str, best: str) -> GraphWriter:
    one = GraphWriter(prefix="one.")
    block = one.node("ArgMax", [best], axis=1, keepdims=1)
    held = one.node("GatherND", [blocks, block], batch_dims=1)
    within = one.node("ArgMax", [held], axis=1, keepdims=1)
    one.node("Add", [one.node("Mul", [block, one.integers(BLOCK)]), within], "one.ids")
    one.node("ReduceMax", [held, one.integers([1])], "one.scores", keepdims=1)
    one.node("Identity", ["one.scores"], "one.best")
    return one


def _without_forbidden(output: Output) -> Floats | None:
    """Return the bias with which forbidden tokens are never the best."""
    if not output.forbidden:
        return output.bias
    bias = np.zeros(len(output.table), np.float32) if output.bias is None else output.bias.copy()
    bias[list(output.forbidden)] = -np.inf
    return bias


def _count_forbidden(writer: GraphWriter, logits: str) -> None:
    """Turn the best tokens' log-probabilities among those allowed into those among all.

    The sum over those allowed is their logit minus their log-probability.
    """
    if not logits:
        writer.node("Identity", ["top.allowed"], "top.logprobs")
        return
    first = writer.integers([0])  # never forbidden: of those that are, the sum is unknown
    best = [writer.node("Gather", [name, first], axis=1) for name in ("top.scores", "top.allowed")]
    writer.node("Sub", best, "top.sum")
    writer.node("ReduceLogSumExp", [logits, writer.integers([-1])], "top.forbidden")
    writer.node("Sub", ["top.forbidden", "top.sum"], "top.ratio")
    writer.node("Softplus", ["top.ratio"], "top.more")
    writer.node("Sub", ["top.allowed", "top.more"], "top.logprobs")
