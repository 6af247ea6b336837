"""The in-process limit: what the machine can do with a subject when nothing is served.

Worker processes are started once and asked many times, so that a limit can be taken in the same
minute as every other number. Waiting for a question they take no processor time.
"""

import multiprocessing
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self, TypeAlias

from benchmarks.answerers import open_answerer
from benchmarks.in_process import Answerer, Item
from benchmarks.subjects import Subject
from service.runtime.providers import Device

Run: TypeAlias = tuple[int, Callable[[], object]]

_START_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class Question:
    """What the workers shall do, over and over."""

    seconds: float
    batch: int | None = None
    """None answers items one by one, from text or file to answer. A number runs the bare session
    on collated batches of this many rows."""
    is_sorted: bool = False
    """Whether the rows of a batch are of similar length, or as they come."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one worker did."""

    items: int
    seconds: float
    runs: Sequence[float]
    """Seconds of each run, in order."""


class Workers:
    """Processes that hold a subject's sessions; each answers its share of the items."""

    def __init__(
        self, subject: Subject, count: int, threads: int, device: Device | None = None
    ) -> None:
        """Start `count` processes with sessions of `threads` threads each.

        With a device its provider computes, and the service's family prepares.
        """
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        for rank in range(count):
            ours, theirs = context.Pipe()
            arguments = (theirs, subject, (rank, count), threads, device)
            process = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        for pipe in self._pipes:
            if not pipe.poll(_START_SECONDS):
                raise TimeoutError(f"a worker for {subject.name} did not start")
            pipe.recv()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the processes."""
        for pipe in self._pipes:
            pipe.send(None)
            pipe.close()
        for process in self._processes:
            process.join(timeout=10)

    def ask(self, question: Question) -> Sequence[Told]:
        """Let all workers do the same at the same time; one result a worker."""
        for pipe in self._pipes:
            pipe.send(question)
        for pipe in self._pipes:
            pipe.recv()  # everything is collated
        for pipe in self._pipes:
            pipe.send(True)
        return [pipe.recv() for pipe in self._pipes]

    def rate(self, question: Question) -> float:
        """Return items a second of all workers together."""
        return sum(told.items / told.seconds for told in self.ask(question))


def batches(
    items: Sequence[Item], size: int, length: Callable[[Item], int] | None, seed: int = 0
) -> Sequence[Sequence[Item]]:
    """Cut items into batches of one size, and leave out what is over.

    Args:
        items: at least one; repeated where there are fewer than `size`.
        size: rows of a batch.
        length: where given, neighbours by length share a batch, and the batches are shuffled.
        seed: of the shuffle.
    """
    rows = list(items) * -(-size // len(items))
    if length is not None:
        rows.sort(key=length)
    cut = [rows[start : start + size] for start in range(0, len(rows) - size + 1, size)]
    if length is not None:
        random.Random(seed).shuffle(cut)
    return cut


def _work(
    pipe: Connection,
    subject: Subject,
    share: tuple[int, int],
    threads: int,
    device: Device | None,
) -> None:
    """Serve questions until None comes. Runs in a process of its own."""
    rank, count = share
    answerer = open_answerer(subject.folder, threads, device)
    items = subject.items[rank::count]
    answerer.answer(items[0])
    pipe.send(True)
    while (question := pipe.recv()) is not None:
        runs = _runs(answerer, items, question)
        pipe.send(True)
        pipe.recv()
        pipe.send(_told(runs, question))


def _runs(answerer: Answerer, items: Sequence[Item], question: Question) -> Sequence[Run]:
    """Return what to do in turn: how many items a run answers, and the run."""
    if question.batch is None:
        return [(1, partial(answerer.answer, item)) for item in items]
    cut = batches(items, question.batch, answerer.length if question.is_sorted else None)
    return [(len(batch), partial(answerer.run, answerer.collate(batch))) for batch in cut]


def _told(runs: Sequence[Run], question: Question) -> Told:
    items = 0
    times: list[float] = []
    started = before = time.perf_counter()
    # Batches differ by much, so that only whole rounds of them can be compared.
    every = 1 if question.batch is None else len(runs)
    while before < started + question.seconds or len(times) % every:
        rows, run = runs[len(times) % len(runs)]
        run()
        now = time.perf_counter()
        items += rows
        times.append(now - before)
        before = now
    return Told(items, before - started, times)
