"""Writes ONNX graphs node by node, so that subjects need no training framework."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

MICROSOFT = "com.microsoft"
INT8_ACTIVATIONS = 4
"""The accuracy level at which MatMulNBits multiplies int8 by int8, row by row."""

_OPSETS = (helper.make_opsetid("", 20), helper.make_opsetid(MICROSOFT, 1))
_IR_VERSION = 10


class GraphBuilder:
    """Collects nodes and weights; every method returns the name of the tensor it makes."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []

    def input(self, name: str, element: int, shape: Sequence[int | str]) -> str:
        """Declare an input of the graph; a str is the name of a dynamic axis."""
        self._inputs.append(helper.make_tensor_value_info(name, element, list(shape)))
        return name

    def weight(self, values: NDArray[Any]) -> str:
        """Add a constant."""
        name = f"w{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(values, name))
        return name

    def normal(self, shape: Sequence[int], scale: float) -> NDArray[np.float32]:
        """Draw fp32 values from a normal distribution around 0."""
        return self.random.standard_normal(shape, np.float32) * np.float32(scale)

    def node(self, operator: str, inputs: Sequence[str], domain: str = "", **attributes: Any) -> str:
        """Add a node of one output."""
        return self.nodes(operator, inputs, 1, domain, **attributes)[0]

    def nodes(
        self, operator: str, inputs: Sequence[str], outputs: int, domain: str = "", **attributes: Any
    ) -> list[str]:
        """Add a node of several outputs."""
        index = len(self._nodes)
        names = [f"t{index}_{output}" for output in range(outputs)]
        self._nodes.append(
            helper.make_node(operator, list(inputs), names, f"n{index}", domain=domain, **attributes)
        )
        return names

    def name(self, tensor: str, name: str) -> None:
        """Give the last node's only output a name of its own."""
        last = self._nodes[-1]
        if list(last.output) != [tensor]:
            raise ValueError(f"{tensor} is not what the last node makes")
        last.output[0] = name

    def model(self, output: str, shape: Sequence[int | str]) -> onnx.ModelProto:
        """Return the finished graph with one fp32 output."""
        result = helper.make_tensor_value_info(output, TensorProto.FLOAT, list(shape))
        graph = helper.make_graph(
            self._nodes, "subject", self._inputs, [result], initializer=self._weights
        )
        model = helper.make_model(graph, opset_imports=list(_OPSETS), producer_name="quartet")
        model.ir_version = _IR_VERSION
        return model

    def matmul(self, tensor: str, values: NDArray[np.float32]) -> str:
        """Multiply by an fp32 matrix [inputs, outputs]."""
        return self.node("MatMul", [tensor, self.weight(values)])

    def int8_matmul(
        self, tensor: str, values: NDArray[np.float32], bias: NDArray[np.float32], block: int
    ) -> str:
        """Multiply by a matrix [inputs, outputs] kept as int8 with a scale per `block` inputs.

        Activations are quantised row by row inside the kernel, so that a row's result does not
        depend on the other rows.
        """
        inputs, outputs = values.shape
        blocks = values.T.reshape(outputs, inputs // block, block)
        scales = np.maximum(np.abs(blocks).max(axis=2), 1e-12) / 127
        rows = np.round(blocks / scales[:, :, None]).astype(np.int16) + 128
        packed = self.weight(rows.astype(np.uint8))
        return self.node(
            "MatMulNBits",
            [tensor, packed, self.weight(scales.astype(np.float32)), "", "", self.weight(bias)],
            MICROSOFT,
            K=inputs,
            N=outputs,
            bits=8,
            block_size=block,
            accuracy_level=INT8_ACTIVATIONS,
        )


def save(model: onnx.ModelProto, path: Path) -> None:
    """Write a graph as one file, making its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save_model(model, str(path))
