"""The starter translator's weights, read back from its fp32 graphs.

Its checkpoint is not in the repository, but the graphs hold all of it, in the order in which it is
computed with: layers that read the same stand side by side in one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from models.graphs.translator_weights import (
    Attention,
    DecoderLayer,
    Embedding,
    EncoderLayer,
    FeedForward,
    Floats,
    Linear,
    Norm,
    Output,
    Stack,
    TranslatorWeights,
)
from models.starters.zh_en.model import sinusoids

_FILES = ("encoder_model", "step")
_ENCODER_LAYER, _DECODER_LAYER = 4, 6
"""Linear layers of each."""


@dataclass(frozen=True, slots=True, eq=False)
class _Parts:
    """What a graph computes with, in that order."""

    linears: Sequence[Linear]
    norms: Sequence[Norm]
    table: Floats
    scale: float
    """Of what is looked up in the table."""


def weights_of_graphs(folder: Path, source_length: int, target_length: int) -> TranslatorWeights:
    """Return the weights of a version of `zh-en`, and the encodings of this many positions."""
    encoder_graph, step_graph = (onnx.load(str(folder / f"{n}.onnx")) for n in _FILES)
    encoder, step = _parts(encoder_graph), _parts(step_graph)
    heads = _heads(step_graph)
    width = len(encoder.norms[-1].weight)
    layers = (len(step.linears) - 2) // _DECODER_LAYER
    cross = _split(encoder.linears[-1], 2 * layers)
    return TranslatorWeights(
        heads=heads,
        head_width=width // heads,
        norm_first=True,
        attention_scale=(width // heads) ** -0.5,
        encoder=Stack(_embedding(encoder, width, source_length), encoder.norms[-1]),
        encoder_layers=list(_encoder_layers(encoder)),
        decoder=Stack(_embedding(step, width, target_length), step.norms[-1]),
        decoder_layers=list(_decoder_layers(step, cross)),
        output=Output(step.table, _output_bias(step_graph), step.linears[-1]),
    )


def _encoder_layers(parts: _Parts) -> Iterator[EncoderLayer]:
    """After the embedding's projection, before what the decoder's cross attention reads."""
    linears = parts.linears[1:-1]
    for index in range(len(linears) // _ENCODER_LAYER):
        merged, output, expand, contract = linears[_ENCODER_LAYER * index :][:_ENCODER_LAYER]
        norms = parts.norms[2 * index :]
        query, key, value = _split(merged, 3)
        attention = Attention(query, key, value, output)
        yield EncoderLayer(attention, norms[0], FeedForward(expand, contract, "relu"), norms[1])


def _decoder_layers(parts: _Parts, cross: Sequence[Linear]) -> Iterator[DecoderLayer]:
    """After the embedding's projection, before the output's; `cross` are keys and values."""
    for index, (key, value) in enumerate(zip(cross[::2], cross[1::2], strict=True)):
        linears = parts.linears[1 + _DECODER_LAYER * index :]
        merged, output, query, cross_output, expand, contract = linears[:_DECODER_LAYER]
        own_query, own_key, own_value = _split(merged, 3)
        norms = parts.norms[3 * index :]
        yield DecoderLayer(
            Attention(own_query, own_key, own_value, output),
            norms[0],
            Attention(query, key, value, cross_output),
            norms[1],
            FeedForward(expand, contract, "relu"),
            norms[2],
        )


def _embedding(parts: _Parts, width: int, longest: int) -> Embedding:
    codes: Floats = sinusoids(torch.arange(longest, dtype=torch.float32), width).numpy()
    return Embedding(parts.table, parts.scale, parts.linears[0], codes)


def _split(layer: Linear, count: int) -> Sequence[Linear]:
    """Return layers that stand side by side in one."""
    if layer.bias is None:
        raise ValueError("every layer of the starter has a bias")
    weights = map(np.ascontiguousarray, np.split(layer.weight, count, axis=1))
    return [Linear(*one) for one in zip(weights, np.split(layer.bias, count), strict=True)]


def _parts(model: onnx.ModelProto) -> _Parts:
    constants = _constants(model)
    readers = {name: node for node in model.graph.node for name in node.input}
    linears, norms = [], []
    table: Floats | None = None
    scale = 1.0
    for node in model.graph.node:
        known = [constants[name] for name in node.input if name in constants]
        if node.op_type == "MatMul" and known:
            reader = readers[node.output[0]]
            linears.append(Linear(known[0], _bias(reader, constants)))
        elif node.op_type.endswith("LayerNormalization"):
            norms.append(Norm(known[0], known[1], _attribute(node, "epsilon")))
        elif node.op_type == "Gather" and table is None and known and known[0].ndim == 2:
            table = known[0]
            scale = float(constants[readers[node.output[0]].input[1]])
    if table is None:
        raise ValueError("the graph looks nothing up")
    return _Parts(linears, norms, table, scale)


def _constants(model: onnx.ModelProto) -> Mapping[str, Floats]:
    """Return arrays by name; those that are stored in half the size, by what they are cast to."""
    found = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    casts = [node for node in model.graph.node if node.op_type == "Cast" and node.input[0] in found]
    widened = {node.output[0]: found[node.input[0]].astype(np.float32) for node in casts}
    return {**found, **widened}


def _bias(adding: onnx.NodeProto, constants: Mapping[str, Floats]) -> Floats:
    """Return what is added to a product."""
    return next(constants[name] for name in adding.input if name in constants)


def _output_bias(step: onnx.ModelProto) -> Floats:
    [gemm] = [node for node in step.graph.node if node.op_type == "Gemm"]
    return _constants(step)[gemm.input[2]]


def _heads(step: onnx.ModelProto) -> int:
    kind = "GroupQueryAttention"
    found = {int(_attribute(n, "num_heads")) for n in step.graph.node if n.op_type == kind}
    [heads] = found
    return heads


def _attribute(node: onnx.NodeProto, name: str) -> Any:
    return next(onnx.helper.get_attribute_value(a) for a in node.attribute if a.name == name)
