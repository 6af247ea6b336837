"""The forms in which a graph's products can be in few bits, to be compared on one model."""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from models.graphs.files import store_weights_as_fp16
from models.graphs.quantise import quantise_embeddings, quantise_weights
from models.graphs.quiet import quiet

_MICROSOFT = "com.microsoft"
_MIDDLE = 128  # of uint8, which stands for 0


def weights_as_fp32(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy without the Casts of `store_weights_as_fp16`: weights are fp32 again."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    stored = {one.name: one for one in copy.graph.initializer}
    nodes = []
    for node in copy.graph.node:
        weight = stored.get(node.input[0]) if node.op_type == "Cast" else None
        if weight is None or weight.data_type != TensorProto.FLOAT16:
            nodes.append(node)
            continue
        values = numpy_helper.to_array(weight).astype(np.float32)
        copy.graph.initializer.remove(weight)
        copy.graph.initializer.append(numpy_helper.from_array(values, node.output[0]))
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    return copy


def quantise_by_rows(model: onnx.ModelProto, *, excluded: Collection[str] = ()) -> onnx.ModelProto:
    """Return a copy whose constant products are int8 by int8 with a scale a row of activations.

    It takes standard operators to find the scales, and `MatMulIntegerToFloat` to multiply; a row's
    result does not depend on the other rows.

    Args:
        model: a graph with fp32 initialisers.
        excluded: names of MatMul nodes to leave as they are.

    Raises:
        ValueError: if the graph holds no MatMul with constant weights.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    matrices = {
        one.name: numpy_helper.to_array(one)
        for one in copy.graph.initializer
        if len(one.dims) == 2 and one.data_type == TensorProto.FLOAT
    }
    nodes: list[onnx.NodeProto] = []
    made: set[str] = set()
    for node in copy.graph.node:
        constant = node.op_type == "MatMul" and node.input[1] in matrices
        if not constant or node.name in excluded:
            nodes.append(node)
            continue
        given, name = node.input[:2]
        if name not in made:
            copy.graph.initializer.extend(_rounded(matrices[name], name))
        if given not in made:  # queries, keys and values read the same
            nodes += _levels(given)
        made |= {given, name}
        nodes += _product_by_rows(node, name)
    if not made:
        raise ValueError("the graph holds no MatMul with constant weights")
    copy.graph.initializer.extend(_constants())
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    read = {name for node in nodes for name in _reads(node)}
    left = [one for one in copy.graph.initializer if one.name in read]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(left)
    if not any(known.domain == _MICROSOFT for known in copy.opset_import):
        copy.opset_import.append(helper.make_opsetid(_MICROSOFT, 1))
    return copy


def _rounded(matrix: NDArray[np.float32], name: str) -> list[TensorProto]:
    scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / 127
    return [
        numpy_helper.from_array(np.round(matrix / scales).astype(np.int8), f"{name}.rows"),
        numpy_helper.from_array(scales.astype(np.float32), f"{name}.row_scales"),
    ]


def _constants() -> list[TensorProto]:
    return [
        numpy_helper.from_array(value, f"by_rows.{name}")
        for name, value in {
            "last": np.array([-1], np.int64),
            "least": np.array(1e-9, np.float32),
            "step": np.array(1 / 127, np.float32),
            "one": np.array(1.0, np.float32),
            "middle": np.array(_MIDDLE, np.uint8),
        }.items()
    ]


def _levels(given: str) -> list[onnx.NodeProto]:
    """Return what finds a scale for every row of a tensor, and rounds the rows by it."""

    def step(kind: str, inputs: list[str], output: str) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [f"{given}.by_rows.{output}"])

    return [
        step("Abs", [given], "size"),
        step("ReduceMax", [f"{given}.by_rows.size", "by_rows.last"], "peak"),
        step("Max", [f"{given}.by_rows.peak", "by_rows.least"], "bounded"),
        step("Mul", [f"{given}.by_rows.bounded", "by_rows.step"], "scale"),
        step("Div", [given, f"{given}.by_rows.scale"], "scaled"),
        step(
            "QuantizeLinear", [f"{given}.by_rows.scaled", "by_rows.one", "by_rows.middle"], "levels"
        ),
    ]


def _product_by_rows(node: onnx.NodeProto, matrix: str) -> list[onnx.NodeProto]:
    given, result = node.input[0], node.output[0]
    inputs = [
        f"{given}.by_rows.levels", f"{matrix}.rows", "by_rows.one", f"{matrix}.row_scales",
        "by_rows.middle",
    ]  # fmt: skip
    product = f"{result}.product"
    return [
        helper.make_node("MatMulIntegerToFloat", inputs, [product], domain=_MICROSOFT),
        helper.make_node("Mul", [product, f"{given}.by_rows.scale"], [result]),
    ]


def quantise_dynamically(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with products and convolutions in integers, one scale over the whole batch."""
    with quiet(), TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        quantize_dynamic(
            model,
            str(path),
            op_types_to_quantize=["MatMul", "Gemm", "Conv"],
            per_channel=True,
            reduce_range=True,  # without VNNI instructions, eight bits overflow in silence
            weight_type=QuantType.QInt8,
            # Output types of ONNX Runtime's own operators cannot be inferred.
            extra_options={"DefaultTensorType": TensorProto.FLOAT},
        )
        made = onnx.load(str(path))
    _put_in_order(made.graph)
    return made


def _reads(node: onnx.NodeProto) -> set[str]:
    """Return the tensors that a node reads, and that graphs in it read of those around them."""
    inner = [one for own in node.attribute for one in own.g.node]
    captured = set[str]().union(*map(_reads, inner)) - {
        name for one in inner for name in one.output
    }
    return {*node.input, *captured} - {""}


def _put_in_order(graph: onnx.GraphProto) -> None:
    """Sort nodes behind what they read; the quantiser overlooks what an If reads within."""
    waiting = [(node, _reads(node)) for node in graph.node]
    missing = {name for node, _ in waiting for name in node.output}
    ordered: list[onnx.NodeProto] = []
    while waiting:
        later = []
        for node, reads in waiting:
            if missing.isdisjoint(reads):
                missing.difference_update(node.output)
                ordered.append(node)
            else:
                later.append((node, reads))
        if len(later) == len(waiting):
            raise ValueError("the nodes of the graph read each other in a circle")
        waiting = later
    del graph.node[:]
    graph.node.extend(ordered)


def _as_it_is(model: onnx.ModelProto) -> onnx.ModelProto:
    return model


FP32: Final = "fp32"
DYNAMIC: Final = "dynamic"
FORMS: Final[Mapping[str, Callable[[onnx.ModelProto], onnx.ModelProto]]] = {
    FP32: _as_it_is,
    "MatMulNBits, 8 bits, blocks of 32": quantise_weights,
    "MatMulNBits, 8 bits, blocks of 128": partial(quantise_weights, block_size=128),
    "MatMulNBits, 4 bits, blocks of 32": partial(quantise_weights, bits=4),
    "scales by row": quantise_by_rows,
    DYNAMIC: quantise_dynamically,
}
"""`MatMulNBits` at accuracy level 4, where it multiplies int8 by int8. Of convolutions there is
only fp32 and dynamic: no kernel quantises them by row."""


def in_form(model: onnx.ModelProto, form: str) -> onnx.ModelProto:
    """Return a starter's fp32 graph in one of the `FORMS`, embeddings in int8 for all but fp32.

    Raises:
        ValueError: there is nothing in it that could be in this form.
    """
    if form == FP32:
        return model
    plain = weights_as_fp32(model)
    return store_weights_as_fp16(quantise_embeddings(FORMS[form](plain)), exact=False)
