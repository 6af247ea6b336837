"""Batches of a fixed size, translated by each engine in turn."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from benchmarks.translation.findings import PLAIN, Speed
from benchmarks.translation.subjects import Load, Question, Subject
from benchmarks.translation.workers import Worker


@dataclass(frozen=True, slots=True)
class Batches:
    """Batches of one size."""

    size: int
    beams: int
    rounds: int
    questions: Sequence[Question]


@dataclass(frozen=True, slots=True)
class StaticPlan:
    """What is translated, and how often."""

    cores: int
    batches: Sequence[Batches]

    @property
    def shapes(self) -> Sequence[tuple[int, int]]:
        """Return workers and threads: one worker of all threads, or of one, and a worker a core."""
        return [(1, self.cores)] + ([(1, 1), (self.cores, 1)] if self.cores > 1 else [])


@dataclass(slots=True)
class _Readings:
    rates: list[float] = field(default_factory=list)
    per_core: list[float] = field(default_factory=list)
    right: int = 0
    asked: int = 0

    def add(self, load: Load, found: Mapping[str, Any]) -> None:
        tokens = sum(load.count(answer) for answer in found["answers"])
        self.rates.append(tokens / found["seconds"])
        self.per_core.append(tokens / found["cpu"])
        pairs = zip(load.questions, found["answers"], strict=True)
        self.right += sum(question.answers[load.beams] == answer for question, answer in pairs)
        self.asked += len(load.questions)


def measure_statics(
    subject: Subject, plan: StaticPlan, tell: Callable[[str], None]
) -> Sequence[Speed]:
    """Measure the engines that are not only served, in turn, in every shape."""
    engines = [engine for engine in subject.folders if engine != PLAIN]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(engine, subject.folders[engine], *shape))
            for shape, engine in product(plan.shapes, engines)
        ]
        warm_up = [question.text for question in subject.questions[:4]]
        for worker in workers:  # first runs allocate, and choose kernels
            worker.translate(warm_up, 4, 1)
        return [
            speed
            for batches in plan.batches
            for speed in _measured(workers, batches, subject.count, tell)
        ]


def _measured(
    workers: Sequence[Worker],
    batches: Batches,
    count: Callable[[str], int],
    tell: Callable[[str], None],
) -> Sequence[Speed]:
    readings = {worker: _Readings() for worker in workers}
    load = Load(batches.questions, batches.beams, count)
    texts = [question.text for question in batches.questions]
    for _ in range(batches.rounds):
        for worker, reading in readings.items():
            tell(f"{worker.engine}, {worker.workers} x {worker.threads}, batches of {batches.size}")
            reading.add(load, worker.translate(texts, batches.size, batches.beams))
    return [
        Speed(
            worker.engine,
            worker.workers,
            worker.threads,
            batches.size,
            batches.beams,
            reading.rates,
            reading.per_core,
            reading.right / reading.asked,
        )
        for worker, reading in readings.items()
    ]
