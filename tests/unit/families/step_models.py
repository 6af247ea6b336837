"""A tiny translator with random weights, as real graphs for in-flight batching."""

import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from models.graphs.in_flight import step_graphs
from models.graphs.translator_weights import (
    Attention,
    DecoderLayer,
    Embedding,
    EncoderLayer,
    FeedForward,
    Floats,
    Linear,
    Norm,
    Output,
    Stack,
    TranslatorWeights,
)
from service.runtime.buffers import DeviceBuffer
from service.runtime.providers import Device
from service.runtime.session import OrtSession

HEADS, WIDTH, PLACES = 2, 16, 64


class _Random:
    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def array(self, *shape: int, scale: float = 0.5) -> Floats:
        return (self._rng.normal(size=shape) * scale).astype(np.float32)

    def linear(self, inputs: int = WIDTH, outputs: int = WIDTH) -> Linear:
        return Linear(self.array(inputs, outputs), self.array(outputs))

    def norm(self) -> Norm:
        return Norm(1 + self.array(WIDTH, scale=0.1), self.array(WIDTH, scale=0.1))

    def attention(self) -> Attention:
        return Attention(self.linear(), self.linear(), self.linear(), self.linear())

    def feed_forward(self) -> FeedForward:
        return FeedForward(self.linear(WIDTH, 24), self.linear(24, WIDTH), "relu")

    def stack(self, table: Floats) -> Stack:
        return Stack(Embedding(table, positions=self.array(PLACES, WIDTH)), self.norm())


def random_weights(source: int, target: int, seed: int = 0) -> TranslatorWeights:
    """Return a translator of two layers, with this many source and target tokens."""
    random = _Random(seed)
    table = random.array(target, WIDTH, scale=0.8)
    return TranslatorWeights(
        heads=HEADS,
        head_width=WIDTH // HEADS,
        norm_first=True,
        attention_scale=(WIDTH // HEADS) ** -0.5,
        encoder=random.stack(random.array(source, WIDTH)),
        encoder_layers=[
            EncoderLayer(random.attention(), random.norm(), random.feed_forward(), random.norm())
        ],
        decoder=random.stack(table),
        decoder_layers=[
            DecoderLayer(
                random.attention(),
                random.norm(),
                random.attention(),
                random.norm(),
                random.feed_forward(),
                random.norm(),
            )
            for _ in range(2)
        ],
        output=Output(table, random.array(target)),
    )


class DeviceLikeSession(OrtSession):
    """Its buffers are out of the host's reach, as a GPU's are: only graphs change them."""

    def allocate(self, dtype: str, shape: Sequence[int]) -> DeviceBuffer:
        buffer = super().allocate(dtype, shape)
        buffer.on_host = None
        return buffer


class WitnessedSession(DeviceLikeSession):
    """Remembers that it was run, or bound to be."""

    fed: bool = False

    def run_kept(self, *arguments: Any, **named: Any) -> Any:
        self.fed = True
        return super().run_kept(*arguments, **named)

    def bind(self, *arguments: Any) -> Any:
        self.fed = True
        return super().bind(*arguments)


@cache
def step_sessions(source: int, target: int) -> dict[str, WitnessedSession]:
    """Return sessions of such a translator."""
    with tempfile.TemporaryDirectory() as folder:
        sessions = {}
        for name, graph in step_graphs(random_weights(source, target), "fp32").items():
            path = Path(folder, f"{name}.onnx")
            path.write_bytes(graph.SerializeToString())
            sessions[name] = WitnessedSession(path, Device("cpu"), 1)
        return sessions
