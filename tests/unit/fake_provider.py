"""A second provider for the CPU that is a fake, and a model whose load may choose it."""

import dataclasses
import time
import weakref
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

from service.cache.memory import NullBackend
from service.cache.responses import ResponseCache
from service.engine.device import DeviceRuntime
from service.engine.factory import EngineFactory
from service.errors import InferenceError, ModelLoadError
from service.registry.candidates import Candidate
from service.registry.choice import Chooser
from service.registry.loader import Loaded, Loader
from service.registry.measurements import MeasurementsFolder
from service.repository.repository import ModelRepository
from service.runtime.graphs import Graph
from service.runtime.providers import PROVIDERS, Device, Provider
from service.runtime.session import OrtSession
from service.types import Feed, Feeds
from tests.lamps import make_repository

FIRST_SECONDS = 2e-3


@dataclasses.dataclass
class Fake:
    """How the fake provider behaves, in comparison with the first choice."""

    seconds: float = FIRST_SECONDS / 2
    shift: float = 0.0
    """Added to the logit of "light"."""
    bf16_shift: float = 0.0
    can_bf16: bool = False
    problem: str | None = None
    fails: str = ""
    """When it raises: "open" or "run"."""
    opened: list[str] = dataclasses.field(default_factory=list)
    asked: int = 0
    open_now: weakref.WeakSet = dataclasses.field(default_factory=weakref.WeakSet)
    most_open: int = 0
    """Most sessions that were open at the same time, those of the first choice included."""
    pause: float = 0.0
    """Seconds before they are counted, in which a thread that has just ended lets go of its own."""
    rows: dict[str, Provider] = dataclasses.field(default_factory=dict)


class PacedSession(OrtSession):
    """Takes a known processor time."""

    seconds = FIRST_SECONDS
    shift = 0.0
    fails = False

    def run(self, feeds: Mapping[str, Feed]) -> Feeds:
        if self.fails:
            raise InferenceError("the fake provider fails")
        until = time.thread_time() + self.seconds
        found = super().run(feeds)
        while time.thread_time() < until:
            pass
        return {
            name: array + np.array([0, self.shift], array.dtype) for name, array in found.items()
        }


def add_fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Add a second provider for the CPU, whose first one is slowed down."""
    fake = Fake()

    def noted(session: PacedSession) -> PacedSession:
        time.sleep(fake.pause)
        fake.open_now.add(session)
        fake.most_open = max(fake.most_open, len(fake.open_now))
        return session

    def opens(graph: Graph, device: Device, threads: int, **options: object) -> PacedSession:
        if device.kind == "cpu":
            return noted(PacedSession(graph, Device("cpu"), threads))
        if fake.fails == "open":
            raise ModelLoadError("model.onnx has an Attention, which the fake does not have")
        session = PacedSession(graph, Device("cpu"), threads)
        session.seconds, session.fails = fake.seconds, fake.fails == "run"
        is_exact = device.inference_precision == "f32"
        session.shift = fake.shift if is_exact else fake.bf16_shift
        fake.opened.append(device.inference_precision)
        return noted(session)

    def inference_precisions() -> tuple[str, ...]:
        fake.asked += 1
        return ("f32", "bf16") if fake.can_bf16 else ("f32",)

    row = Provider(
        "Fake",
        opens=opens,
        problem=lambda device: fake.problem,
        beside="cpu",
        inference_precisions=inference_precisions,
    )
    rows = {"cpu": dataclasses.replace(PROVIDERS["cpu"], opens=opens), "fake": row}
    for module in ("service.runtime.providers", "service.registry.choice"):
        monkeypatch.setattr(f"{module}.PROVIDERS", rows)
    fake.rows = rows
    return fake


@asynccontextmanager
async def loaded(
    tmp_path: Path,
    kept: Path | None = None,
    precision: str | None = "fp32",
    cores: int = 1,
    **options: object,
) -> AsyncIterator[Loaded]:
    if not (tmp_path / "lamps").exists():
        make_repository(tmp_path)
    runtime = DeviceRuntime(Device("cpu"), cores)
    chooser = Chooser(seconds=0.2, **options)
    loader = Loader(
        EngineFactory(runtime),
        ResponseCache(NullBackend()),
        warm_up_seconds=0.001,
        kept=MeasurementsFolder(kept),
        chooser=chooser,
    )
    one = await loader.load(ModelRepository(tmp_path).open("lamps", precision=precision))
    try:
        yield one
    finally:
        await one.close(grace=0)
        runtime.close()


def rows(one: Loaded) -> Mapping[tuple[str, str, str], Candidate]:
    assert one.choice is not None
    return {
        (row.provider, row.precision, row.inference_precision): row for row in one.choice.candidates
    }
