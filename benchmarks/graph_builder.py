"""Writes ONNX graphs node by node, so that subjects need no training framework."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"

_INT8_ACTIVATIONS = 4  # the accuracy level at which MatMulNBits multiplies int8 by int8
_MIDDLE = 128  # of uint8, which stands for 0
_OPSETS = (helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1))
_IR_VERSION = 10


class GraphBuilder:
    """Collects nodes and weights; every method returns the name of the tensor it makes."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, element: int, shape: Sequence[int | str]) -> str:
        """Declare an input of the graph; a str is the name of a dynamic axis."""
        self._inputs.append(helper.make_tensor_value_info(name, element, list(shape)))
        return name

    def output(self, tensor: str, name: str, shape: Sequence[int | str]) -> None:
        """Declare an fp32 output of the graph."""
        self._nodes.append(helper.make_node("Identity", [tensor], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape)))

    def weight(self, values: NDArray[Any]) -> str:
        """Add a constant."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def floats(self, *values: float) -> str:
        """Add an fp32 constant: a scalar if it is one value, else a vector."""
        array = np.array(values, np.float32)
        return self.weight(array[0] if len(values) == 1 else array)

    def integers(self, *values: int) -> str:
        """Add an int64 vector."""
        return self.weight(np.array(values, np.int64))

    def normal(self, shape: Sequence[int], scale: float) -> NDArray[np.float32]:
        """Draw fp32 values from a normal distribution around 0."""
        return self._random.standard_normal(shape, np.float32) * np.float32(scale)

    def node(self, operator: str, inputs: Sequence[str], domain: str = "", **settings: Any) -> str:
        """Add a node of one output."""
        return self.nodes(operator, inputs, 1, domain, **settings)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: int, domain: str = "", **settings: Any
    ) -> list[str]:
        """Add a node of several outputs."""
        index = len(self._nodes)
        names = [f"t{index}_{output}" for output in range(outputs)]
        node = helper.make_node(
            operator, list(inputs), names, f"n{index}", domain=domain, **settings
        )
        self._nodes.append(node)
        return names

    def model(self) -> onnx.ModelProto:
        """Return the finished graph."""
        graph = helper.make_graph(
            self._nodes, "subject", self._inputs, self._outputs, initializer=self._weights
        )
        model = helper.make_model(graph, opset_imports=list(_OPSETS), producer_name="benchmarks")
        model.ir_version = _IR_VERSION
        return model

    def matmul(self, tensor: str, matrix: NDArray[np.float32]) -> str:
        """Multiply by an fp32 matrix [inputs, outputs]."""
        return self.node("MatMul", [tensor, self.weight(matrix)])

    def matmul_by_rows(self, tensor: str, matrix: NDArray[np.float32]) -> str:
        """Multiply int8 by int8, the activations quantised with one scale a row.

        As fast as dynamic quantisation of the whole tensor, nearly, and a row's result does
        not depend on the other rows of the batch.
        """
        scales = np.maximum(np.abs(matrix).max(axis=0), 1e-12) / 127
        peak = self.node("ReduceMax", [self.node("Abs", [tensor]), self.integers(-1)])
        scale = self.node(
            "Mul", [self.node("Max", [peak, self.floats(1e-9)]), self.floats(1 / 127)]
        )
        scaled = self.node("Mul", [tensor, self.node("Reciprocal", [scale])])
        middle = self.weight(np.array(_MIDDLE, np.uint8))
        rows = self.node("QuantizeLinear", [scaled, self.floats(1.0), middle])
        product = self.node(
            "MatMulIntegerToFloat",
            [
                rows,
                self.weight(np.round(matrix / scales).astype(np.int8)),
                self.floats(1.0),
                self.weight(scales.astype(np.float32)),
                middle,
            ],
            MICROSOFT,
        )
        return self.node("Mul", [product, scale])

    def matmul_by_blocks(self, tensor: str, matrix: NDArray[np.float32], block: int) -> str:
        """Multiply by a matrix kept as int8 with a scale for every `block` inputs."""
        inputs, outputs = matrix.shape
        blocks = matrix.T.reshape(outputs, inputs // block, block)
        scales = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / 127
        rows = np.round(blocks / scales[:, :, None]) + _MIDDLE
        return self.node(
            "MatMulNBits",
            [
                tensor,
                self.weight(rows.astype(np.uint8)),
                self.weight(scales.astype(np.float32)),
            ],
            MICROSOFT,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=block,
            accuracy_level=_INT8_ACTIVATIONS,
        )


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph as one file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path))
