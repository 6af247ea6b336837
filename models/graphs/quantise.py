"""int8 graphs whose answers do not depend on the neighbours in a batch.

Transformers get weight-only int8 (`MatMulNBits`: activations are quantised row by row inside
the kernel), convolutional networks static QDQ (`models.graphs.static`). Dynamic
quantisation of whole tensors is not offered: one scale over a batch lets a large row move
its neighbours' answers.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization.matmul_nbits_quantizer import (
    DefaultWeightOnlyQuantConfig,
    MatMulNBitsQuantizer,
)

INT8_ACTIVATIONS = 4  # the accuracy level at which the kernel multiplies int8 by int8


def quantise_weights(
    model: onnx.ModelProto, *, block_size: int = 32, excluded: Sequence[str] = (), bits: int = 8
) -> onnx.ModelProto:
    """Return a copy whose constant MatMul weights are integers of `MatMulNBits`.

    Quantise the graph as exported, before `store_weights_as_fp16`.

    Args:
        model: a graph with fp32 initialisers.
        block_size: inputs that share a scale; smaller is closer to fp32 and a little larger.
        excluded: names of MatMul nodes to leave as they are.
        bits: of a weight, 8 or 4; activations are rounded to 8 in both.

    Raises:
        ValueError: if the graph holds no MatMul with constant weights.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    logging.getLogger("onnxruntime.quantization.matmul_nbits_quantizer").setLevel(logging.WARNING)
    algorithm = DefaultWeightOnlyQuantConfig(
        block_size=block_size, is_symmetric=True, accuracy_level=INT8_ACTIVATIONS, bits=bits
    )
    quantiser = MatMulNBitsQuantizer(copy, nodes_to_exclude=list(excluded), algo_config=algorithm)
    quantiser.process()
    quantised = quantiser.model.model
    if not any(node.op_type == "MatMulNBits" for node in quantised.graph.node):
        raise ValueError("the graph holds no MatMul with constant weights")
    return quantised


def quantise_embeddings(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy whose embedding tables are int8 with one fp32 scale a row.

    A table is a constant fp32 matrix that only `Gather` on axis 0 reads, by indices that are
    not constant. Rows are looked up first and scaled after, so only looked-up rows cost.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    constants = {weight.name: weight for weight in copy.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in copy.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        table = constants.get(node.input[0]) if node.input else None
        if table is None or not _is_embedding(node, table, readers[table.name], constants):
            nodes.append(node)
            continue
        nodes += _int8_lookup(copy.graph, node, table)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def _is_embedding(
    node: onnx.NodeProto,
    table: TensorProto,
    readers: Sequence[onnx.NodeProto],
    constants: Mapping[str, TensorProto],
) -> bool:
    axis = next((item.i for item in node.attribute if item.name == "axis"), 0)
    return (
        node.op_type == "Gather"
        and axis == 0
        and len(readers) == 1
        and len(table.dims) == 2  # a matrix
        and table.data_type == TensorProto.FLOAT
        and node.input[1] not in constants
    )


def _int8_lookup(
    graph: onnx.GraphProto, gather: onnx.NodeProto, table: TensorProto
) -> list[onnx.NodeProto]:
    """Replace the table in the graph, and return the nodes that stand for the Gather."""
    values = numpy_helper.to_array(table)
    scales = np.maximum(np.abs(values).max(axis=1, keepdims=True), 1e-12) / 127
    rows = np.round(values / scales).astype(np.int8)
    name, indices, result = table.name, gather.input[1], gather.output[0]
    graph.initializer.remove(table)
    graph.initializer.extend(
        [
            numpy_helper.from_array(rows, f"{name}.int8"),
            numpy_helper.from_array(scales.astype(np.float32), f"{name}.scales"),
        ]
    )
    return [
        helper.make_node("Gather", [f"{name}.int8", indices], [f"{result}.int8"], axis=0),
        helper.make_node("Gather", [f"{name}.scales", indices], [f"{result}.scale"], axis=0),
        helper.make_node("Cast", [f"{result}.int8"], [f"{result}.float"], to=TensorProto.FLOAT),
        helper.make_node("Mul", [f"{result}.float", f"{result}.scale"], [result]),
    ]
