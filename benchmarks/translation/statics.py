"""Batches of a fixed size, translated by each engine in turn."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks.translation.countdown import Sentence
from benchmarks.translation.findings import CTRANSLATE2, QUARTET, Speed
from benchmarks.translation.folders import Folders

_STOP_SECONDS = 20.0


class Worker:
    """A process of `benchmarks.translation.worker`."""

    def __init__(self, engine: str, folder: Path, workers: int, threads: int) -> None:
        self.engine, self.workers, self.threads = engine, workers, threads
        command = [sys.executable, "-m", "benchmarks.translation.worker", engine, str(folder)]
        self._process = subprocess.Popen(
            [*command, str(workers), str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End it."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def translate(self, sentences: Sequence[Sentence], batch: int, beams: int) -> Mapping[str, Any]:
        """Return seconds, processor time and answers. Raises RuntimeError: it ended."""
        texts = [sentence.text for sentence in sentences]
        asked = json.dumps({"texts": texts, "batch": batch, "beams": beams})
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        self._process.stdin.write(asked + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the worker of {self.engine} ended")
        found: Mapping[str, Any] = json.loads(line)
        return found


@dataclass(frozen=True, slots=True)
class StaticPlan:
    """What is translated, and how often."""

    cores: int
    rounds: int
    sentences: Mapping[int, Sequence[Sentence]]
    """By batch size."""
    beamed: Mapping[int, Sequence[Sentence]]
    """The same for searches with four beams, made once."""

    @property
    def steps(self) -> int:
        """Return how many measurements there are."""
        engines = 2 * (2 if self.cores > 1 else 1)
        return engines * (self.rounds * len(self.sentences) + len(self.beamed))


@dataclass(slots=True)
class _Readings:
    rates: list[float] = field(default_factory=list)
    per_core: list[float] = field(default_factory=list)
    right: int = 0
    asked: int = 0

    def add(self, sentences: Sequence[Sentence], found: Mapping[str, Any]) -> None:
        tokens = sum(sentence.target_length for sentence in sentences)
        self.rates.append(tokens / found["seconds"])
        self.per_core.append(tokens / found["cpu"])
        pairs = zip(sentences, found["answers"], strict=True)
        self.right += sum(sentence.answer == answer for sentence, answer in pairs)
        self.asked += len(sentences)


def measure_statics(
    folders: Folders, plan: StaticPlan, tell: Callable[[str], None]
) -> Sequence[Speed]:
    """Measure both engines with one worker of all threads, and a worker a core, in turn."""
    shapes = [(1, plan.cores)] + ([(plan.cores, 1)] if plan.cores > 1 else [])
    places = {QUARTET: folders.version, CTRANSLATE2: folders.ctranslate2}
    with ExitStack() as stack:
        workers = [
            stack.enter_context(Worker(engine, places[engine], *shape))
            for shape, engine in product(shapes, places)
        ]
        for worker in workers:  # first runs allocate, and choose kernels
            worker.translate(next(iter(plan.sentences.values()))[:4], 4, 1)
        found: list[Speed] = []
        for beams, rounds, sentences in (
            (1, plan.rounds, plan.sentences),
            (4, 1, plan.beamed),
        ):
            for batch, asked in sentences.items():
                found += _measured(workers, (batch, beams, rounds), asked, tell)
        return found


def _measured(
    workers: Sequence[Worker],
    how: tuple[int, int, int],
    asked: Sequence[Sentence],
    tell: Callable[[str], None],
) -> Sequence[Speed]:
    batch, beams, rounds = how
    readings = {worker: _Readings() for worker in workers}
    for _ in range(rounds):
        for worker, reading in readings.items():
            tell(f"{worker.engine}, {worker.workers} x {worker.threads}, batches of {batch}")
            reading.add(asked, worker.translate(asked, batch, beams))
    return [
        Speed(
            worker.engine,
            worker.workers,
            worker.threads,
            batch,
            beams,
            reading.rates,
            reading.per_core,
            reading.right / reading.asked,
        )
        for worker, reading in readings.items()
    ]
