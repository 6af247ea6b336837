"""What is done to a subject: each function measures one thing and returns what it found."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.limit import Question, Workers
from benchmarks.load import GeneratorName, closed_loop, open_loop
from benchmarks.results import (
    Bare,
    CacheResult,
    IdleLatency,
    OverloadResult,
    Reading,
    SubjectResult,
)
from benchmarks.samples import counter_delta, middle
from benchmarks.servers import Server
from benchmarks.subjects import Subject
from benchmarks.target import Target
from benchmarks.watch import Watch

Progress = Callable[[str], None]
"""Called with a description of each step."""

UNCACHED = {"Cache-Control": "no-store"}

_COMPARED = 8
_TOLERANCE = 0.02


@dataclass(frozen=True, slots=True)
class Options:
    """How long and how much."""

    seconds: float
    """Of one number."""
    rounds: int
    concurrencies: Sequence[int]
    batches: Sequence[int]
    cores: int
    generator: GeneratorName
    folder: Path
    """For logs and request bodies."""

    def points(self) -> int:
        """Return how many steps `measure_subject` reports."""
        return len(self.batches) + self.rounds * (len(self.concurrencies) + 1)


def measure_subject(subject: Subject, options: Options, progress: Progress) -> SubjectResult:
    """Measure limit, bare session, naive server and Quartet, all in turn in the same minutes."""
    logs = options.folder / "logs"
    with (
        Workers(subject, options.cores, 1) as narrow,
        Workers(subject, 1, options.cores) as wide,
        Workers(subject, 1, 1) as lone,
        _ready(Server.naive(subject.folder, logs / f"{subject.name}-naive.log")) as naive,
        _ready(Server.quartet(subject.repository, logs / f"{subject.name}.log")) as quartet,
    ):
        ready_memory = quartet.memory()
        bare = []
        for batch in options.batches:
            progress(f"{subject.name}: bare session, batch {batch}")
            bare.append(_bare(narrow, wide, batch, options.seconds))
        same = same_answers(subject, quartet, naive)
        idle, readings = [], []
        for number in range(1, options.rounds + 1):
            progress(f"{subject.name}: idle, round {number}")
            idle.append(_idle(subject, quartet, (wide, lone), options))
            for concurrency in options.concurrencies:
                progress(f"{subject.name}: concurrency {concurrency}, round {number}")
                readings.append(_reading(subject, (quartet, naive), narrow, concurrency, options))
        return SubjectResult(
            subject.name,
            bare,
            readings,
            idle,
            ready_memory,
            quartet.memory(),
            naive.memory(),
            same,
        )


def _ready(server: Server) -> Server:
    """Wait for a server before anything else starts: the service times its batches meanwhile."""
    try:
        server.wait_ready()
    except BaseException:
        server.stop()
        raise
    return server


def _bare(narrow: Workers, wide: Workers, batch: int, seconds: float) -> Bare:
    alike = Question(seconds / 2, batch, is_sorted=True)
    return Bare(
        batch,
        narrow.rate(alike),
        narrow.rate(Question(seconds / 2, batch)),
        wide.rate(alike),
    )


def _reading(
    subject: Subject,
    servers: tuple[Server, Server],
    workers: Workers,
    concurrency: int,
    options: Options,
) -> Reading:
    quartet, naive = servers
    limit = Question(options.seconds / 2)
    before = workers.rate(limit)
    target = Target.of(subject, quartet.port, _bodies(subject, options), UNCACHED)
    watch = Watch(quartet, subject.name)
    load = closed_loop(target, concurrency, options.seconds, options.generator)
    inside = watch.stop(load)
    after = workers.rate(limit)
    target = Target.of(subject, naive.port, _bodies(subject, options))
    naive_load = closed_loop(target, concurrency, options.seconds, options.generator)
    return Reading(concurrency, before, after, load, naive_load, inside)


def _idle(
    subject: Subject, quartet: Server, workers: tuple[Workers, Workers], options: Options
) -> IdleLatency:
    """Measure one request at a time; always with our own client, which keeps every latency."""
    target = Target.of(subject, quartet.port, _bodies(subject, options), UNCACHED)
    one_by_one = Question(options.seconds / 2, batch=1)
    wide, narrow = (middle(one.ask(one_by_one)[0].runs) for one in workers)
    http = closed_loop(target, 1, options.seconds, "client").answered.p50
    return IdleLatency(http, wide, narrow)


def measure_cache(subject: Subject, options: Options) -> CacheResult:
    """Ask what was asked before."""
    log = options.folder / "logs" / "cache.log"
    with Server.quartet(subject.repository, log) as quartet:
        quartet.wait_ready()
        target = Target.of(subject, quartet.port, _bodies(subject, options))
        _ask_each_once(target, quartet, subject.name)
        before = quartet.get("/metrics")
        load = closed_loop(target, 32, options.seconds, options.generator)
        after = quartet.get("/metrics")
        hits, looked = (
            counter_delta(before, after, "response_cache_lookups_total", {"level": "memory"} | one)
            for one in ({"result": "hit"}, {})
        )
        return CacheResult(load, hits / looked if looked else 0.0)


def _ask_each_once(target: Target, server: Server, model: str) -> None:
    """Fill the cache: ask until all distinct items were computed.

    Raises:
        RuntimeError: that takes too long.
    """
    for _ in range(60):
        before = server.get("/metrics")
        closed_loop(target, 32, 2, "client")
        asked = counter_delta(before, server.get("/metrics"), "response_cache_lookups_total", {})
        computed = counter_delta(
            before, server.get("/metrics"), "inference_batch_size_sum", {"model": model}
        )
        if asked >= target.count and computed == 0:
            return
    raise RuntimeError("the cache did not fill")


def measure_overload(subject: Subject, capacity: float, options: Options) -> OverloadResult:
    """Ask as many at once as may wait, then ten times as many a second as can be answered."""
    log = options.folder / "logs" / "overload.log"
    queue_limit = 256
    settings = {"QUARTET_BATCHING__MAX_QUEUE_SIZE": str(queue_limit)}
    with Server.quartet(subject.repository, log, settings) as quartet:
        quartet.wait_ready()
        target = Target.of(subject, quartet.port, _bodies(subject, options), UNCACHED)
        within = closed_loop(target, queue_limit, 2 * options.seconds, "client")
        over = open_loop(target, 10 * capacity, 2 * options.seconds)
        return OverloadResult(queue_limit, within, 10 * capacity, over)


def same_answers(subject: Subject, quartet: Server, naive: Server) -> float:
    """Return the share of some items that two servers answer alike."""
    headers = {"Content-Type": subject.content_type}
    alike = [
        agrees(
            naive.post(subject.route, body, headers),
            quartet.post(subject.route, body, headers)["results"][0],
        )
        for body in subject.bodies[:_COMPARED]
    ]
    return sum(alike) / len(alike)


def agrees(expected: Any, answer: Any) -> bool:
    """Tell whether an answer says the same; it may say more.

    Numbers may differ by 2 %: kernels add up in another order in another batch.
    """
    match expected:
        case Mapping():
            return all(key in answer and agrees(expected[key], answer[key]) for key in expected)
        case list():
            return len(expected) == len(answer) and all(map(agrees, expected, answer))
        case float():
            return abs(expected - answer) <= _TOLERANCE * max(1.0, abs(expected))
        case _:
            return bool(expected == answer)


def _bodies(subject: Subject, options: Options) -> Path:
    return options.folder / "bodies" / subject.name
