"""Text classifiers that misbehave for one text, "a b", and answer every other at once."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.words import add_words, reader

TRIGGER = "a b"
"""What a load feeds never begins with "a" and has a "b" too."""

_INT, _FLOAT = TensorProto.INT64, TensorProto.FLOAT
node = helper.make_node


def _constants(**values: object) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()]


def _triggered(nodes: list[onnx.NodeProto], **constants: object) -> onnx.ModelProto:
    """Return the reader with nodes that take `times` (0 or 1) and give `nothing` (0)."""
    model = reader()
    graph = model.graph
    (last,) = [n for n in graph.node if list(n.output) == ["logits"]]
    last.output[0] = "scores"
    graph.node.extend(
        [
            node("Gather", ["input_ids", "first"], ["first_ids"], axis=1),
            node("Equal", ["first_ids", "id_of_a"], ["is_a"]),
            node("Equal", ["input_ids", "id_of_b"], ["is_b"]),
            node("Cast", ["is_a"], ["as"], to=_INT),
            node("Cast", ["is_b"], ["bs"], to=_INT),
            node("ReduceMax", ["as"], ["any_a"], keepdims=0),
            node("ReduceMax", ["bs"], ["any_b"], keepdims=0),
            node("Mul", ["any_a", "any_b"], ["both"]),
            node("Reshape", ["both", "one_axis"], ["times"]),
            *nodes,
            node("Add", ["scores", "nothing"], ["logits"]),
        ]
    )
    graph.initializer.extend(_constants(first=0, id_of_a=1, id_of_b=2, one_axis=[1], **constants))
    return model


def looping(*, always: bool = False) -> onnx.ModelProto:
    """Loops for hours, one small node at a time; `always` for every text."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [node("Identity", ["goes_on"], ["go_on"]), node("Mul", ["before", "zero"], ["after"])],
        "body",
        [
            value("i", _INT, []),
            value("goes_on", TensorProto.BOOL, []),
            value("before", _FLOAT, [1]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("after", _FLOAT, [1])],
    )
    nodes = [
        node("Max" if always else "Mul", ["times", "hours"], ["long"]),
        node("Squeeze", ["long"], ["count"]),
        node("Loop", ["count", "", "zero"], ["nothing"], body=body),
    ]
    return _triggered(nodes, hours=np.array([1 << 60]), zero=np.zeros(1, np.float32))


def greedy(gigabytes: int) -> onnx.ModelProto:
    """Fills a gigabyte, then allocates this many more at once."""
    ones = helper.make_tensor("ones", _FLOAT, [1], [1.0])
    nodes = [
        node("Mul", ["times", "gigabyte"], ["some"]),
        node("ConstantOfShape", ["some"], ["filled"], value=ones),
        node("Mul", ["times", "many"], ["size"]),
        node("Expand", ["one", "size"], ["too_much"]),
        node("ReduceSum", ["filled"], ["sum_of_filled"], keepdims=0),
        node("ReduceSum", ["too_much"], ["sum_of_too_much"], keepdims=0),
        node("Add", ["sum_of_filled", "sum_of_too_much"], ["sum"]),
        node("Mul", ["sum", "zero"], ["nothing"]),
    ]
    gigabyte = 1 << 28  # of float32
    return _triggered(
        nodes,
        gigabyte=np.array([gigabyte]),
        many=np.array([gigabytes * gigabyte]),
        one=np.ones(1, np.float32),
        zero=np.zeros(1, np.float32),
    )


def add_lasting(root: Path, name: str, model: onnx.ModelProto) -> None:
    """Write a model into a repository."""
    folder = add_words(root).parent.rename(root / name) / "1"
    onnx.checker.check_model(model)
    onnx.save(model, folder / "model.onnx")
