"""TranslatorGraphs as real ONNX graphs, node by node."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.unit.families.sessions import TranslatorGraphs

FLOAT, INT = TensorProto.FLOAT, TensorProto.INT64


class _Graph:
    """Collects nodes; every call of `add` returns the name of its one output."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value: object, dtype: type = np.int64) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def add(self, operator: str, *inputs: str, to: str | None = None, **attributes: object) -> str:
        name = to or f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def save(self, path: Path, inputs: dict[str, list], outputs: dict[str, list]) -> Path:
        integers = {"input_ids", "attention_mask", "encoder_attention_mask"}
        integers |= {"beam_idx", "sentence_idx"}

        def infos(shapes: dict[str, list]) -> list[onnx.ValueInfoProto]:
            return [
                helper.make_tensor_value_info(name, INT if name in integers else FLOAT, shape)
                for name, shape in shapes.items()
            ]

        graph = helper.make_graph(self.nodes, "g", infos(inputs), infos(outputs), self.constants)
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
        onnx.checker.check_model(model)
        onnx.save(model, path)
        return path


def _cache_names(prefix: str, made: TranslatorGraphs) -> list[tuple[str, int, int]]:
    return [
        (f"{prefix}.{layer}.{part}", layer, index)
        for layer in range(made.layers)
        for index, part in enumerate(("key", "value"))
    ]


def save_encoder(made: TranslatorGraphs, path: Path) -> Path:
    graph = _Graph()
    heads = graph.constant([0, 0, made.heads, made.width])
    # The mask is an input of every encoder; this one has nothing to hide from itself.
    graph.add("Identity", "attention_mask")
    for name, layer, part in _cache_names("cross", made):
        table = graph.constant(made.source[:, layer, part], np.float32)
        rows = graph.add("Reshape", graph.add("Gather", table, "input_ids"), heads)
        graph.add("Transpose", rows, to=name, perm=[0, 2, 1, 3])
    shape = ["B", made.heads, "S", made.width]
    outputs = {name: shape for name, _, _ in _cache_names("cross", made)}
    return graph.save(path, {"input_ids": ["B", "S"], "attention_mask": ["B", "S"]}, outputs)


def save_decoder(made: TranslatorGraphs, path: Path) -> Path:
    graph = _Graph()
    place = _place(graph)
    caches = {}
    heads = graph.constant([0, 0, made.heads, made.width])
    for name, layer, part in _cache_names("present", made):
        table = graph.constant(made.target[:, layer, part], np.float32)
        token = graph.add("Reshape", graph.add("Gather", table, "input_ids"), heads)
        token = graph.add("Mul", graph.add("Transpose", token, perm=[0, 2, 1, 3]), place)
        past = graph.add("Gather", name.replace("present", "past"), "beam_idx")
        caches[layer, part] = graph.add("Concat", past, token, to=name, axis=2)
    own = [graph.add("Mul", caches[layer, 0], caches[layer, 1]) for layer in range(made.layers)]
    total = graph.add("Add", _summed(graph, own), _read(graph, made))
    flat = graph.add("Reshape", total, graph.constant([-1, made.heads * made.width]))
    output = graph.constant(made.output, np.float32)
    logits = graph.add("MatMul", graph.add("Sin", flat), output)
    logits = graph.add("Add", logits, graph.constant(made.bias, np.float32))
    graph.add("LogSoftmax", logits, to="logprobs", axis=-1)
    inputs = {"input_ids": ["N", 1], "beam_idx": ["N"], "sentence_idx": ["N"]}
    inputs["encoder_attention_mask"] = ["B", "S"]
    outputs = {"logprobs": ["N", len(made.bias)]}
    for prefix, rows, length in (("cross", "B", "S"), ("past", "M", "P"), ("present", "N", "Q")):
        into = outputs if prefix == "present" else inputs
        for name, _, _ in _cache_names(prefix, made):
            into[name] = [rows, made.heads, length, made.width]
    return graph.save(path, inputs, outputs)


def _place(graph: _Graph) -> str:
    """P + 1, as a float."""
    shape = graph.add("Shape", "past.0.key")
    length = graph.add("Gather", shape, graph.constant(2))
    return _as_float(graph, graph.add("Add", length, graph.constant(1)))


def _as_float(graph: _Graph, value: str) -> str:
    name = f"float{len(graph.nodes)}"
    graph.nodes.append(helper.make_node("Cast", [value], [name], to=FLOAT))
    return name


def _summed(graph: _Graph, values: list[str]) -> str:
    """Sum over the layers and the positions: [N, H, D]."""
    axes = graph.constant([2])
    return graph.add("Sum", *(graph.add("ReduceSum", v, axes, keepdims=0) for v in values))


def _read(graph: _Graph, made: TranslatorGraphs) -> str:
    """The mean over layers and unmasked positions of key + 2 * value: [N, H, D]."""
    mask = _as_float(graph, graph.add("Gather", "encoder_attention_mask", "sentence_idx"))
    mask = graph.add("Unsqueeze", mask, graph.constant([1, 3]))
    parts = []
    for name, _, part in _cache_names("cross", made):
        values = graph.add("Mul", graph.add("Gather", name, "sentence_idx"), mask)
        parts.append(graph.add("Mul", values, graph.constant(1.0 + part, np.float32)))
    count = graph.add("ReduceSum", mask, graph.constant([2]), keepdims=0)
    count = graph.add("Mul", count, graph.constant(float(made.layers), np.float32))
    return graph.add("Div", _summed(graph, parts), count)
