"""The starter translator as two ONNX graphs: the encoder, and one step of the decoder."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from models.export.onnx_graphs import export_graph
from models.export.quantise import INT8_ACTIVATIONS, quantise_embeddings, quantise_weights
from models.training.translation_model import KeysAndValues, Translator

ZERO_POINT = 128  # what MatMulNBits takes for 0 in its 8 bit weights
BLOCK_SIZE = 128  # inputs that share an int8 scale; it divides every width of the network


class EncoderGraph(nn.Module):
    """``input_ids``, ``attention_mask`` -> ``cross.{i}.key``, ``cross.{i}.value``."""

    def __init__(self, model: Translator) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> tuple[Tensor, ...]:
        """Cross keys and values [B, H, S, D] of each decoder layer."""
        source = self.model.encode(input_ids, attention_mask)
        return tuple(tensor for memory in source for tensor in memory)


class DecoderGraph(nn.Module):
    """The last token of each row, and all that went before, to log-probabilities.

    The gathers by beam and by sentence are inside, so that caches can stay on a device.
    """

    def __init__(self, model: Translator) -> None:
        super().__init__()
        self.model = model

    def forward(
        self,
        input_ids: Tensor,
        beam_idx: Tensor,
        sentence_idx: Tensor,
        encoder_attention_mask: Tensor,
        *caches: Tensor,
    ) -> tuple[Tensor, ...]:
        """``caches`` are cross and then past keys and values, layer by layer."""
        layers = len(self.model.decoder)
        source = [_selected(caches, layer, sentence_idx) for layer in range(layers)]
        past = [_selected(caches, layers + layer, beam_idx) for layer in range(layers)]
        mask = encoder_attention_mask.index_select(0, sentence_idx)
        states, presents = self.model.decode(input_ids, source, mask, past)
        logprobs = self.model.logits(states[:, -1]).log_softmax(dim=-1)
        return (logprobs, *(tensor for memory in presents for tensor in memory))


def _selected(caches: tuple[Tensor, ...], index: int, rows: Tensor) -> KeysAndValues:
    keys, values = caches[2 * index : 2 * index + 2]
    return KeysAndValues(keys.index_select(0, rows), values.index_select(0, rows))


def cache_names(prefix: str, layers: int) -> list[str]:
    """``prefix.0.key``, ``prefix.0.value``, ``prefix.1.key``, ... as in the contract."""
    return [f"{prefix}.{layer}.{part}" for layer in range(layers) for part in ("key", "value")]


def encoder_graph(model: Translator) -> onnx.ModelProto:
    """Export the encoder with the cross projections of all decoder layers."""
    ids = torch.ones(2, 3, dtype=torch.int64)
    axes = {0: "batch", 1: "source"}
    return export_graph(
        EncoderGraph(model),
        {"input_ids": ids, "attention_mask": ids},
        cache_names("cross", model.sizes.decoder_layers),
        {"input_ids": axes, "attention_mask": axes},
    )


def decoder_graph(model: Translator) -> onnx.ModelProto:
    """Export one decoder step; batch, rows, rows before, source and past lengths are free."""
    sizes = model.sizes
    cross = cache_names("cross", sizes.decoder_layers)
    past = cache_names("past", sizes.decoder_layers)
    cross_example = torch.zeros(2, sizes.heads, 3, sizes.head_width)
    past_example = torch.zeros(4, sizes.heads, 5, sizes.head_width)
    row = torch.ones(6, dtype=torch.int64)
    inputs = {
        "input_ids": row[:, None],
        "beam_idx": row,
        "sentence_idx": row,
        "encoder_attention_mask": torch.ones(2, 3, dtype=torch.int64),
        **dict.fromkeys(cross, cross_example),
        **dict.fromkeys(past, past_example),
    }
    axes = {
        **{name: {0: "rows"} for name in ("input_ids", "beam_idx", "sentence_idx")},
        "encoder_attention_mask": {0: "batch", 1: "source"},
        **{name: {0: "batch", 2: "source"} for name in cross},
        **{name: {0: "rows_before", 2: "past"} for name in past},
    }
    outputs = ["logprobs", *cache_names("present", sizes.decoder_layers)]
    return export_graph(DecoderGraph(model), inputs, outputs, axes)


def quantised_encoder(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The encoder with int8 weights and an int8 source table."""
    return quantise_embeddings(quantise_weights(graph, block_size=BLOCK_SIZE))


def quantised_decoder(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The decoder with int8 weights; the tied target table is stored once for both its uses."""
    quantised = quantise_weights(graph, block_size=BLOCK_SIZE)
    constants = {weight.name: weight for weight in quantised.graph.initializer}
    nodes: list[onnx.NodeProto] = []
    for node in quantised.graph.node:
        if node.op_type == "Gemm":
            nodes.append(_int8_product(quantised.graph, node, constants[node.input[1]]))
        else:
            nodes.append(node)
    tied = {node.input[1].removesuffix(".int8") for node in nodes if node.op_type == "MatMulNBits"}
    looked_up = [_int8_lookup(node) if _reads(node, tied) else [node] for node in nodes]
    del quantised.graph.node[:]
    quantised.graph.node.extend(node for group in looked_up for node in group)
    quantised.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array(ZERO_POINT, dtype=np.float32), "int8.zero_point"),
            numpy_helper.from_array(np.array([2], dtype=np.int64), "int8.block_axis"),
        ]
    )
    return quantised


def _int8_product(
    graph: onnx.GraphProto, gemm: onnx.NodeProto, weight: TensorProto
) -> onnx.NodeProto:
    """Store a Gemm's weight [N, K] as int8 in the graph; return the node that stands for it.

    The quantiser knows only MatMul, and a transposed copy of the tied table would be stored.
    """
    values = numpy_helper.to_array(weight)
    rows, columns = values.shape
    blocks = values.reshape(rows, columns // BLOCK_SIZE, BLOCK_SIZE)
    scales = np.maximum(np.abs(blocks).max(axis=2, keepdims=True), 1e-12) / (ZERO_POINT - 1)
    packed = (np.round(blocks / scales) + ZERO_POINT).astype(np.uint8)
    graph.initializer.remove(weight)
    graph.initializer.extend(
        [
            numpy_helper.from_array(packed, f"{weight.name}.int8"),
            numpy_helper.from_array(scales.reshape(rows, -1), f"{weight.name}.scales"),
        ]
    )
    inputs = [gemm.input[0], f"{weight.name}.int8", f"{weight.name}.scales", "", "", gemm.input[2]]
    return helper.make_node(
        "MatMulNBits",
        inputs,
        list(gemm.output),
        domain="com.microsoft",
        K=columns,
        N=rows,
        bits=8,
        block_size=BLOCK_SIZE,
        accuracy_level=INT8_ACTIVATIONS,
    )


def _reads(node: onnx.NodeProto, tables: set[str]) -> bool:
    return node.op_type == "Gather" and node.input[0] in tables


def _int8_lookup(gather: onnx.NodeProto) -> list[onnx.NodeProto]:
    """Nodes that look rows up in the table of an int8 product whose rows are one block each."""
    table, indices, result = gather.input[0], gather.input[1], gather.output[0]
    names = [f"{result}.{step}" for step in ("packed", "float", "shifted", "scale", "block")]
    packed, floats, shifted, scale, blocks = names
    return [
        helper.make_node("Gather", [f"{table}.int8", indices], [packed], axis=0),
        helper.make_node("Cast", [packed], [floats], to=TensorProto.FLOAT),
        helper.make_node("Sub", [floats, "int8.zero_point"], [blocks]),
        helper.make_node("Squeeze", [blocks, "int8.block_axis"], [shifted]),
        helper.make_node("Gather", [f"{table}.scales", indices], [scale], axis=0),
        helper.make_node("Mul", [shifted, scale], [result]),
    ]
