"""Writes ONNX graphs node by node, with ONNX Runtime's fused operators, in a choice of arithmetic.

An exporter traces what a network does in PyTorch; step graphs need operators that PyTorch does
not have (attention over a preallocated cache with a length for every row), so they are written.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.graphs.translator_weights import Activation, Floats, Linear, Norm

OPSET = 20
FUSED = "com.microsoft"  # ONNX Runtime's own operators
ZERO_POINT = 128

# Activations are rounded to 1..255, and weights to 7 bits: with 8, processors without VNNI
# instructions overflow in silence when two products are added.
ACTIVATION_STEPS = 127
WEIGHT_STEPS = 63

Arithmetic: TypeAlias = Literal["fp32", "int8", "fp16", "weights"]
"""int8 multiplies whole numbers, row by row; fp16 holds all floats, caches too, in half precision;
"weights" is fp32 with every product a MatMul of its own and tables in int8, for `MatMulNBits`."""
Shape: TypeAlias = Sequence[int | str]

_TYPES = {
    np.dtype(np.float32): TensorProto.FLOAT,
    np.dtype(np.float16): TensorProto.FLOAT16,
    np.dtype(np.int64): TensorProto.INT64,
    np.dtype(np.int32): TensorProto.INT32,
}


@dataclass(eq=False, slots=True)
class GraphWriter:
    """Nodes and constants in the making. Methods return names of tensors."""

    arithmetic: Arithmetic = "fp32"
    prefix: str = ""
    """Of every name that is not given; a branch needs one of its own."""
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    _constants: dict[str, onnx.TensorProto] = field(default_factory=dict)
    _known: dict[tuple[bytes, str, tuple[int, ...]], str] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)
    _quantised: dict[str, tuple[str, str]] = field(default_factory=dict)
    _zeros: str = ""
    """As many zero points as there are rows, which is always as many."""
    _inputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _outputs: list[onnx.ValueInfoProto] = field(default_factory=list)
    _count: int = 0

    @property
    def float_type(self) -> Any:
        """Return the type of floats between nodes."""
        return np.float16 if self.arithmetic == "fp16" else np.float32

    def input(self, name: str, dtype: Any, shape: Shape) -> str:
        """Declare an input."""
        self._inputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))
        return name

    def output(self, name: str, dtype: Any, shape: Shape) -> str:
        """Declare an output, which some node must write."""
        self._outputs.append(helper.make_tensor_value_info(name, _TYPES[np.dtype(dtype)], shape))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str = "", **attributes: Any) -> str:
        """Add a node with one output and return its name."""
        return self.nodes_with(kind, inputs, [output or self._fresh(kind)], **attributes)[0]

    def nodes_with(
        self, kind: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any
    ) -> Sequence[str]:
        """Add a node and return its outputs; a kind "fused:X" is ONNX Runtime's own X."""
        domain, _, name = kind.rpartition(":")
        node = helper.make_node(
            name, list(inputs), list(outputs), domain=FUSED if domain else "", **attributes
        )
        self.nodes.append(node)
        return outputs

    def constant(self, values: Any, dtype: Any = np.float32) -> str:
        """Store an array once, however often it is asked for; floats as the arithmetic has them."""
        if dtype is np.float32 and self.arithmetic == "fp16":
            return self._stored(values, np.float16)
        return self._stored(values, dtype)

    def linear(self, states: str, layer: Linear) -> str:
        """Return ``states @ weight + bias`` for states [rows, inputs]."""
        return self.product(states, layer.weight, layer.bias)

    def product(self, states: str, weight: Floats, bias: Floats | None) -> str:
        """Multiply states [rows, inputs] by a constant, in the writer's arithmetic.

        In int8 each row of the states has a scale of its own: a row's result does not depend
        on its neighbours.
        """
        if self.arithmetic == "int8":
            return self._int8_product(states, weight, bias)
        result = self.node("MatMul", [states, self.constant(weight)])
        return result if bias is None else self.node("Add", [result, self.constant(bias)])

    def tied_product(self, states: str, table: Floats, bias: Floats | None) -> str:
        """Multiply states [n, width] by a table [vocabulary, width].

        In floats `lookup` reads the very same constant. In integers the product's is packed for
        it at load and then forgotten, so a table to look up in costs no memory of its own.
        """
        if self.arithmetic in ("int8", "weights"):
            return self.product(states, np.ascontiguousarray(table.T), bias)
        inputs = [states, self.constant(table)] + ([] if bias is None else [self.constant(bias)])
        return self.node("Gemm", inputs, transB=1)

    def lookup(self, table: Floats, ids: str) -> str:
        """Return rows of a table."""
        if self.arithmetic in ("fp32", "fp16"):
            return self.node("Gather", [self.constant(table), ids])
        scales = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 127
        rows = self.constant(np.round(table / scales), np.int8)
        floats = self.node("Cast", [self.node("Gather", [rows, ids])], to=TensorProto.FLOAT)
        scale = self.node("Gather", [self.constant(scales.astype(np.float32)), ids])
        return self.node("Mul", [floats, scale])

    def norm(self, states: str, norm: Norm) -> str:
        """Normalise each row."""
        if norm.bias is None:
            return self._scaled_to_one(states, norm)
        inputs = [states, self.constant(norm.weight), self.constant(norm.bias)]
        return self.node("LayerNormalization", inputs, axis=-1, epsilon=norm.epsilon)

    def add_and_norm(
        self, states: str, more: str, norm: Norm, bias: Floats | None, total: bool
    ) -> tuple[str, str]:
        """Return states + more + bias, normalised, and the sum itself if `total` asks for it."""
        if norm.bias is not None and self.arithmetic != "fp16":
            # On a CPU one operator for all of it takes three to five times as long as these.
            if bias is not None:
                more = self.node("Add", [more, self.constant(bias)])
            states = self.node("Add", [states, more])
            return self.norm(states, norm), states
        outputs = [self._fresh("normed")]
        inputs = [states, more, self.constant(norm.weight)]
        kind = "fused:SkipSimplifiedLayerNormalization"
        if norm.bias is not None:
            inputs.append(self.constant(norm.bias))
            kind = "fused:SkipLayerNormalization"
        if bias is not None:
            inputs.append(self.constant(bias))
        if total:
            outputs += ["", "", self._fresh("sum")]
        self.nodes_with(kind, inputs, outputs, epsilon=norm.epsilon)
        return outputs[0], outputs[-1]

    def parted(self, states: str, outputs: Sequence[str], axis: int) -> Sequence[str]:
        """Part states evenly along an axis, as outputs of these names."""
        return self.nodes_with("Split", [states], outputs, axis=axis, num_outputs=len(outputs))

    def activate(self, states: str, activation: Activation) -> str:
        """Apply a function to every element."""
        match activation:
            case "relu":
                return self.node("Relu", [states])
            case "swish":
                return self.node("fused:QuickGelu", [states], alpha=1.0)
            case "gelu":
                return self.node("Gelu", [states])
            case "gelu_tanh":
                return self.node("Gelu", [states], approximate="tanh")

    def integers(self, values: Any, dtype: Any = np.int64) -> str:
        """Store whole numbers."""
        return self.constant(np.array(values, dtype), dtype)

    def model(self, name: str) -> onnx.ModelProto:
        """Return the finished graph, checked."""
        graph = helper.make_graph(
            self.nodes, name, self._inputs, self._outputs, list(self._constants.values())
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        helper.set_model_props(model, self.metadata)
        onnx.checker.check_model(model)
        return model

    def branch(self, name: str, outputs: Sequence[str]) -> onnx.GraphProto:
        """Return the nodes as one side of an `If`; they may read what stands before it."""
        infos = [onnx.ValueInfoProto(name=output) for output in outputs]
        return helper.make_graph(self.nodes, name, [], infos, list(self._constants.values()))

    def as_float32(self, states: str) -> str:
        """Return states in single precision, whatever the arithmetic."""
        if self.arithmetic != "fp16":
            return states
        return self.node("Cast", [states], to=TensorProto.FLOAT)

    def _stored(self, values: Any, dtype: Any) -> str:
        if dtype is np.float16:  # what is too large for half precision becomes its largest
            most = np.finfo(np.float16).max
            values = np.where(np.isinf(values), values, np.clip(values, -most, most))
        array: NDArray[Any] = np.ascontiguousarray(values, dtype)
        key = (hashlib.sha256(array.data).digest(), array.dtype.str, np.shape(values))
        if key not in self._known:
            name = self._known[key] = f"{self.prefix}constant.{len(self._constants)}"
            stored = numpy_helper.from_array(array.reshape(np.shape(values)), name)
            self._constants[name] = stored
        return self._known[key]

    def _scaled_to_one(self, states: str, norm: Norm) -> str:
        """Divide each row by its root mean square, whose squares half precision could not hold."""
        wide = self.as_float32(states)
        squares = self.node("Mul", [wide, wide])
        mean = self.node("ReduceMean", [squares, self.integers([-1])])
        safe = self.node("Add", [mean, self._stored(norm.epsilon, np.float32)])
        scaled = self.node("Div", [wide, self.node("Sqrt", [safe])])
        if self.arithmetic == "fp16":
            scaled = self.node("Cast", [scaled], to=TensorProto.FLOAT16)
        return self.node("Mul", [scaled, self.constant(norm.weight)])

    def _int8_product(self, states: str, weight: Floats, bias: Floats | None) -> str:
        stored, scales = self._int8_weight(weight)
        rounded, scale = self._rounded_rows(states)
        one, zero = self.constant(np.float32(1)), self.integers(ZERO_POINT, np.uint8)
        inputs = [rounded, stored, one, scales, zero]
        if bias is not None and np.isin(bias, (0, -np.inf)).all():  # what no scale changes
            inputs += ["", self.constant(bias)]
            bias = None
        scaled = self.node("Mul", [self.node("fused:MatMulIntegerToFloat", inputs), scale])
        return scaled if bias is None else self.node("Add", [scaled, self.constant(bias)])

    def _rounded_rows(self, states: str) -> tuple[str, str]:
        """Return states [rows, width] as integers, and the scale of each row [rows, 1].

        What several products read is rounded once.
        """
        if states not in self._quantised:
            width = self.node("ReduceMax", [self.node("Abs", [states]), self.integers([-1])])
            scale = self.node("Mul", [width, self.constant(np.float32(1 / ACTIVATION_STEPS))])
            # A row of zeros stays zero, whatever it is divided by.
            scale = self.node("Max", [scale, self.constant(np.float32(1e-30))])
            flat = self.node("Squeeze", [scale, self.integers([1])])
            if not self._zeros:
                shape = self.node("Shape", [flat])
                self._zeros = self.node("Expand", [self.integers(ZERO_POINT, np.uint8), shape])
            rounded = self.node("QuantizeLinear", [states, flat, self._zeros], axis=0)
            self._quantised[states] = rounded, scale
        return self._quantised[states]

    def _int8_weight(self, weight: Floats) -> tuple[str, str]:
        """Store a weight [inputs, outputs] with one scale an output."""
        scales = np.maximum(np.abs(weight).max(axis=0), 1e-12) / WEIGHT_STEPS
        rounded = np.round(weight / scales)
        return self.constant(rounded, np.int8), self.constant(scales.astype(np.float32))

    def _fresh(self, kind: str) -> str:
        self._count += 1
        return f"{self.prefix}{kind.rpartition(':')[2].lower()}.{self._count}"
