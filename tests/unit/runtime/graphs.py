"""Tiny real graphs for tests of the runtime."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


def save(path: Path, nodes: list, inputs: list, outputs: list) -> Path:
    graph = helper.make_graph(nodes, "g", inputs, outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def accumulator(path: Path) -> Path:
    """past [n, k], x [n, 1] -> present = concat(past, x), total = sum over axis 1."""
    axes = helper.make_node("Constant", [], ["axes"], value_ints=[1])
    nodes = [
        axes,
        helper.make_node("Concat", ["past", "x"], ["present"], axis=1),
        helper.make_node("ReduceSum", ["present", "axes"], ["total"], keepdims=0),
    ]
    return save(
        path,
        nodes,
        [
            helper.make_tensor_value_info("past", FLOAT, ["n", "k"]),
            helper.make_tensor_value_info("x", FLOAT, ["n", 1]),
        ],
        [
            helper.make_tensor_value_info("present", FLOAT, ["n", "m"]),
            helper.make_tensor_value_info("total", FLOAT, ["n"]),
        ],
    )


def matmul(path: Path, width: int = 256) -> Path:
    """x [n, width] -> y = x @ w, enough work to be timed."""
    weight = helper.make_tensor(
        "w", FLOAT, [width, width], np.eye(width, dtype=np.float32).tobytes(), raw=True
    )
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", FLOAT, ["n", width])],
        [weight],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, path)
    return path


def int8_product(path: Path, operator: str) -> Path:
    """left uint8 [n, 64] -> product [n, 3] with a matrix of 127, by `MatMulInteger` or its kin."""
    weights = [helper.make_tensor("right", TensorProto.INT8, [64, 3], [127] * 192)]
    inputs, domain, type_ = ["left", "right"], "", TensorProto.INT32
    if operator == "MatMulIntegerToFloat":
        weights.append(helper.make_tensor("one", FLOAT, [], [1.0]))
        inputs, domain, type_ = [*inputs, "one", "one"], "com.microsoft", FLOAT
    graph = helper.make_graph(
        [helper.make_node(operator, inputs, ["product"], domain=domain)],
        "g",
        [helper.make_tensor_value_info("left", TensorProto.UINT8, ["n", 64])],
        [helper.make_tensor_value_info("product", type_, ["n", 3])],
        weights,
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), path)
    return path


def counting(path: Path) -> Path:
    """n [1] -> y [1]: adds 1 to 0 as often as n says, one node at a time."""
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["go_on"]),
            helper.make_node("Add", ["y_before", "one"], ["y_after"]),
        ],
        "body",
        [
            scalar("i", INT, []),
            scalar("goes_on", TensorProto.BOOL, []),
            scalar("y_before", FLOAT, [1]),
        ],
        [scalar("go_on", TensorProto.BOOL, []), scalar("y_after", FLOAT, [1])],
    )
    nodes = [
        helper.make_node("Constant", [], ["one"], value_floats=[1.0]),
        helper.make_node("Constant", [], ["zero"], value_floats=[0.0]),
        helper.make_node("Constant", [], ["axes"], value_ints=[0]),
        helper.make_node("Squeeze", ["n", "axes"], ["count"]),
        helper.make_node("Loop", ["count", "", "zero"], ["y"], body=body),
    ]
    inputs = [helper.make_tensor_value_info("n", INT, [1])]
    return save(path, nodes, inputs, [helper.make_tensor_value_info("y", FLOAT, [1])])


def filling_for_hours(path: Path) -> Path:
    """n [1] -> y: fills a tensor of n ones, then counts without end while the tensor is needed."""
    scalar = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["goes_on"], ["go_on"]),
            helper.make_node("Add", ["y_before", "y_before"], ["y_after"]),
        ],
        "body",
        [
            scalar("i", INT, []),
            scalar("goes_on", TensorProto.BOOL, []),
            scalar("y_before", FLOAT, [1]),
        ],
        [scalar("go_on", TensorProto.BOOL, []), scalar("y_after", FLOAT, [1])],
    )
    ones = helper.make_tensor("ones", FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("Constant", [], ["hours"], value_int=1 << 60),
        helper.make_node("Constant", [], ["zero"], value_ints=[0]),
        helper.make_node("ConstantOfShape", ["n"], ["filled"], value=ones),
        helper.make_node("Gather", ["filled", "zero"], ["first"]),
        helper.make_node("Loop", ["hours", "", "first"], ["last"], body=body),
        helper.make_node("ReduceSum", ["filled"], ["sum"], keepdims=0),
        helper.make_node("Add", ["last", "sum"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info("n", INT, [1])]
    return save(path, nodes, inputs, [helper.make_tensor_value_info("y", FLOAT, [1])])


def filling(path: Path) -> Path:
    """n [1] -> y: the sum of a tensor of n ones."""
    ones = helper.make_tensor("ones", FLOAT, [1], [1.0])
    nodes = [
        helper.make_node("ConstantOfShape", ["n"], ["filled"], value=ones),
        helper.make_node("ReduceSum", ["filled"], ["y"], keepdims=0),
    ]
    inputs = [helper.make_tensor_value_info("n", INT, [1])]
    return save(path, nodes, inputs, [helper.make_tensor_value_info("y", FLOAT, [])])
