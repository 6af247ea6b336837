"""What the project promises of its speed, compared with what was measured."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median

from benchmarks.results import Results, SubjectResult

RATIOS = {
    "distilbert": {32: 1.05, 64: 1.05},
    "detector": {8: 0.92, 32: 0.92, 64: 0.92},
    "news-topics": {8: 0.70, 64: 0.85},
}
"""Least items a second in units of the in-process limit, by subject and concurrency."""

_TAIL = 1.6
_OVERLOADED_TAIL = 1.5
"""How much the 99th percentile of accepted requests may grow from a full queue to ten times
the load: refusing takes processor time, too."""


@dataclass(frozen=True, slots=True)
class Check:
    """One promise."""

    promise: str
    measured: float
    bound: float
    is_least: bool
    """Whether the bound is the least allowed, rather than the most."""
    unit: str = ""

    @property
    def is_met(self) -> bool:
        """Tell whether the promise is kept."""
        if self.is_least:
            return self.measured >= self.bound
        return self.measured <= self.bound

    def __str__(self) -> str:
        sign = "≥" if self.is_least else "≤"
        return f"{self.promise}: {self.measured:.4g} {self.unit} ({sign} {self.bound:g})"


def checks(results: Results) -> Sequence[Check]:
    """Return every promise about something that was measured."""
    found = [check for subject in results.subjects for check in _of_subject(subject)]
    return [*found, *_of_cache(results), *_of_overload(results), *_of_starters(results)]


def _of_subject(subject: SubjectResult) -> Iterator[Check]:
    name = subject.name
    yield Check(f"{name}: answers as the session does", subject.same_answers, 1.0, True)
    for concurrency, least in RATIOS.get(name, {}).items():
        measured = subject.ratio_at(concurrency)
        if measured is not None:
            yield Check(f"{name}: of the limit at {concurrency}", measured, least, True)
    if name == "distilbert":
        for concurrency in (32, 64):
            tails = [
                r.quartet.answered.p99 / r.quartet.answered.p50 for r in subject.at(concurrency)
            ]
            if tails:
                yield Check(f"{name}: p99 over p50 at {concurrency}", median(tails), _TAIL, False)
        yield Check(f"{name}: resident alone", subject.loaded_memory.rss, 300, False, "MiB")
    if subject.idle:
        yield from _of_idle(subject)


def _of_idle(subject: SubjectResult) -> Iterator[Check]:
    if subject.name == "distilbert":
        added = median(1000 * idle.over_wide for idle in subject.idle)
        yield Check("distilbert: added to a two-thread session, idle", added, 1.5, False, "ms")
    if subject.name == "news-topics":
        added = median(1000 * idle.over_best for idle in subject.idle)
        yield Check("news-topics: added to the session, idle", added, 0.5, False, "ms")


def _of_cache(results: Results) -> Iterator[Check]:
    if results.cache is None:
        return
    hits = results.cache.load.rate
    yield Check("cache: hits a second", hits, 5000, True)
    yield Check("cache: share of look-ups that hit", results.cache.hit_share, 0.99, True)
    distilbert = results.subject("distilbert")
    misses = distilbert.rate_at(max(distilbert.concurrencies())) if distilbert else None
    if misses:
        yield Check("cache: hits over distilbert's misses", hits / misses, 10, True)


def _of_overload(results: Results) -> Iterator[Check]:
    found = results.overload
    if found is None:
        return
    lost = sum(seen.count for seen in found.within.refused.values()) + found.within.errors
    yield Check("overload: shed although the queue had room", lost, 0, False)
    yield Check("overload: broken connections", found.over.errors, 0, False)
    yield Check("overload: slowest refusal", 1000 * found.slowest_refusal, 50, False, "ms")
    if found.within.answered.p99:
        grown = found.over.answered.p99 / found.within.answered.p99
        promise = "overload: accepted p99 over that of a full queue"
        yield Check(promise, grown, _OVERLOADED_TAIL, False)


def _of_starters(results: Results) -> Iterator[Check]:
    found = results.starters
    if found is None:
        return
    count = len(found.models)
    yield Check(f"{count} starters: start to ready", median(found.ready_seconds), 10, False, "s")
    yield Check(f"{count} starters: resident", found.used_memory.rss, 600, False, "MiB")
    yield Check(f"{count} starters: idle", 100 * found.idle_cpu, 1, False, "% of a core")
