"""A one-stage detector of the size of YOLOv8-n, with random weights.

Convolutions with SiLU, cross-stage blocks, spatial pyramid pooling, a two-way feature pyramid and
a decoupled head with binned distances: 2.6 M parameters for 6 labels. Output as Ultralytics
writes it: [B, 4 + labels, boxes], centres and sizes in input pixels, then scores.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from benchmarks.graph_builder import GraphBuilder

SIZE = 320
STRIDES = (8, 16, 32)

_WIDTHS = (16, 32, 64, 128, 208)
_HEAD_WIDTH = 64
_BINS = 16

Measure = Callable[[onnx.ModelProto], Sequence[NDArray[Any]]]
"""Runs a graph on sample images and returns all of its outputs."""


@dataclass(frozen=True, slots=True)
class Spread:
    """What turns raw logits into ones of which few are over 0.25 as scores."""

    highest: float
    """As many raw logits are above it as there should be objects."""
    scale: float

    @classmethod
    def of(cls, raw: NDArray[Any]) -> "Spread":
        """Leave two objects an image and stride."""
        share = 2 * len(raw) / raw.size
        return cls(float(np.quantile(raw, 1 - share)), 1.5 / float(raw.std()))

    @property
    def centre(self) -> float:
        """Return the raw logit that becomes 0."""
        return self.highest + 1.1 / self.scale  # a score of 0.25 is a logit of -1.1


def detector(labels: int, measure: Measure, seed: int = 0) -> onnx.ModelProto:
    """Return a graph of images [B,3,320,320] -> output0 [B,4+labels,2100].

    Random weights give logits of any size, so the raw ones are measured first and then spread
    such that a few boxes an image score over 0.25, as in a photo of few objects.
    """
    raw = measure(_Detector(GraphBuilder(seed), labels, None).build())
    spreads = [Spread.of(logits) for logits in raw]
    return _Detector(GraphBuilder(seed), labels, spreads).build()


@dataclass(frozen=True, slots=True)
class _Detector:
    graph: GraphBuilder
    labels: int
    spreads: Sequence[Spread] | None
    """None builds the graph that returns the raw logits of each stride."""

    def build(self) -> onnx.ModelProto:
        graph = self.graph
        images = graph.input("images", TensorProto.FLOAT, ("batch", 3, SIZE, SIZE))
        levels = self._neck(*self._backbone(images))
        if self.spreads is None:
            for index, (tensor, width) in enumerate(levels):
                logits, _ = self._head(tensor, width)
                graph.output(logits, f"logits{index}", ("batch", self.labels, "h", "w"))
            return graph.model()
        scores, boxes = [], []
        for (tensor, width), stride, spread in zip(levels, STRIDES, self.spreads, strict=True):
            logits, bins = self._head(tensor, width)
            centred = graph.node("Sub", [logits, graph.floats(spread.centre)])
            scores.append(
                self._flat(graph.node("Mul", [centred, graph.floats(spread.scale)]), self.labels)
            )
            boxes.append(self._boxes(self._flat(bins, 4 * _BINS), stride))
        score = graph.node("Sigmoid", [graph.node("Concat", scores, axis=2)])
        result = graph.node("Concat", [graph.node("Concat", boxes, axis=2), score], axis=1)
        count = sum((SIZE // stride) ** 2 for stride in STRIDES)
        graph.output(result, "output0", ("batch", 4 + self.labels, count))
        return graph.model()

    def _backbone(self, images: str) -> tuple[str, str, str]:
        first, second, third, fourth, fifth = _WIDTHS
        tensor = self._conv(images, (3, first), 3, 2)
        tensor = self._conv(tensor, (first, second), 3, 2)
        tensor = self._cross_stage(tensor, (second, second), 1, shortcut=True)
        tensor = self._conv(tensor, (second, third), 3, 2)
        small = self._cross_stage(tensor, (third, third), 2, shortcut=True)
        tensor = self._conv(small, (third, fourth), 3, 2)
        middle = self._cross_stage(tensor, (fourth, fourth), 2, shortcut=True)
        tensor = self._conv(middle, (fourth, fifth), 3, 2)
        tensor = self._cross_stage(tensor, (fifth, fifth), 1, shortcut=True)
        return small, middle, self._pyramid_pool(tensor, fifth)

    def _neck(self, small: str, middle: str, large: str) -> list[tuple[str, int]]:
        _, _, third, fourth, fifth = _WIDTHS
        join = self._join
        down = self._cross_stage(join(self._double(large), middle), (fifth + fourth, fourth), 1)
        fine = self._cross_stage(join(self._double(down), small), (fourth + third, third), 1)
        up = join(self._conv(fine, (third, third), 3, 2), down)
        up = self._cross_stage(up, (third + fourth, fourth), 1)
        top = join(self._conv(up, (fourth, fourth), 3, 2), large)
        top = self._cross_stage(top, (fourth + fifth, fifth), 1)
        return [(fine, third), (up, fourth), (top, fifth)]

    def _head(self, tensor: str, width: int) -> tuple[str, str]:
        """Return raw logits [B,labels,h,w] and distance bins [B,64,h,w]."""
        branches = []
        for outputs in (self.labels, 4 * _BINS):
            branch = self._conv(tensor, (width, _HEAD_WIDTH), 3)
            branch = self._conv(branch, (_HEAD_WIDTH, _HEAD_WIDTH), 3)
            branches.append(self._conv(branch, (_HEAD_WIDTH, outputs), 1, activated=False))
        return branches[0], branches[1]

    def _boxes(self, bins: str, stride: int) -> str:
        """Return centres and sizes in pixels from the bins of a stride, [B,4,cells]."""
        graph, side = self.graph, SIZE // stride
        split = graph.node("Reshape", [bins, graph.integers(0, 4, _BINS, side * side)])
        weights = graph.node("Softmax", [split], axis=2)
        values = graph.weight(np.arange(_BINS, dtype=np.float32)[:, None])
        expected = graph.node("Mul", [weights, values])
        distances = graph.node("ReduceSum", [expected, graph.integers(2)], keepdims=0)
        near, far = graph.nodes("Split", [distances], 2, axis=1, num_outputs=2)
        rows, columns = np.mgrid[:side, :side].astype(np.float32) + 0.5
        anchors = graph.weight(np.stack([columns.ravel(), rows.ravel()])[None])
        low, high = graph.node("Sub", [anchors, near]), graph.node("Add", [anchors, far])
        centre = graph.node("Mul", [graph.node("Add", [low, high]), graph.floats(stride / 2)])
        size = graph.node("Mul", [graph.node("Sub", [high, low]), graph.floats(stride)])
        return graph.node("Concat", [centre, size], axis=1)

    def _conv(
        self,
        tensor: str,
        widths: tuple[int, int],
        kernel: int,
        stride: int = 1,
        activated: bool = True,
    ) -> str:
        """Convolve, with SiLU; batch norm counts as folded in."""
        inputs, outputs = widths
        graph = self.graph
        # With this gain the activations neither grow nor fade over sixty layers of SiLU.
        weight = graph.normal(
            (outputs, inputs, kernel, kernel), 1.55 * (inputs * kernel**2) ** -0.5
        )
        result = graph.node(
            "Conv",
            [tensor, graph.weight(weight), graph.weight(np.zeros(outputs, np.float32))],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[kernel // 2] * 4,
        )
        return graph.node("Mul", [result, graph.node("Sigmoid", [result])]) if activated else result

    def _cross_stage(
        self, tensor: str, widths: tuple[int, int], depth: int, shortcut: bool = False
    ) -> str:
        """Split in two, refine one half `depth` times, and merge every stage."""
        inputs, outputs = widths
        half = outputs // 2
        stages = self.graph.nodes(
            "Split", [self._conv(tensor, (inputs, outputs), 1)], 2, axis=1, num_outputs=2
        )
        for _ in range(depth):
            refined = self._conv(self._conv(stages[-1], (half, half), 3), (half, half), 3)
            stages.append(self.graph.node("Add", [stages[-1], refined]) if shortcut else refined)
        return self._conv(self._join(*stages), ((2 + depth) * half, outputs), 1)

    def _pyramid_pool(self, tensor: str, width: int) -> str:
        pooled = [self._conv(tensor, (width, width // 2), 1)]
        for _ in range(3):
            pooled.append(
                self.graph.node(
                    "MaxPool", [pooled[-1]], kernel_shape=[5, 5], strides=[1, 1], pads=[2] * 4
                )
            )
        return self._conv(self._join(*pooled), (2 * width, width), 1)

    def _double(self, tensor: str) -> str:
        """Repeat every row and column."""
        scales = self.graph.floats(1.0, 1.0, 2.0, 2.0)
        return self.graph.node("Resize", [tensor, "", scales], mode="nearest")

    def _join(self, *tensors: str) -> str:
        return self.graph.node("Concat", list(tensors), axis=1)

    def _flat(self, tensor: str, channels: int) -> str:
        return self.graph.node("Reshape", [tensor, self.graph.integers(0, channels, -1)])
