"""What the project promises of in-flight translation, compared with what was measured."""

from collections.abc import Iterator, Sequence

from benchmarks.targets import Check
from benchmarks.translation.findings import CTRANSLATE2, PLAIN, QUARTET, Findings

STATIC = {1: 1.6, 8: 1.6, 32: 1.1}
"""Least target tokens a second in units of CTranslate2's, by batch size."""

_MEAN, _P95, _SATURATED, _OVER_PLAIN, _MORE_MEMORY = 0.6, 0.7, 1.3, 1.5, 100.0


def checks(findings: Findings) -> Sequence[Check]:
    """Return every promise about something that was measured."""
    return [*_of_statics(findings), *_of_streams(findings), *_of_memory(findings)]


def _of_statics(findings: Findings) -> Iterator[Check]:
    for batch, least in STATIC.items():
        ours, theirs = (findings.fastest(e, batch) for e in (QUARTET, CTRANSLATE2))
        if ours and theirs:
            promise = f"batches of {batch}: tokens a second over CTranslate2's"
            yield Check(promise, ours.rate / theirs.rate, least, True)
    greedy = [speed for speed in findings.speeds if speed.beams == 1]
    if greedy:
        yield Check("right answers in batches", min(s.right for s in greedy), 1.0, True)


def _of_streams(findings: Findings) -> Iterator[Check]:
    for of, most in (("mean", _MEAN), ("p95", _P95)):
        ours, theirs = (findings.latency(e, of) for e in (QUARTET, CTRANSLATE2))
        if ours and theirs:
            yield Check(
                f"random arrivals: {of} latency over CTranslate2's", ours / theirs, most, False
            )
    saturated = findings.saturated(QUARTET)
    for engine, least in ((CTRANSLATE2, _SATURATED), (PLAIN, _OVER_PLAIN)):
        other = findings.saturated(engine)
        if saturated and other:
            promise = f"saturation: tokens a second over {engine}"
            yield Check(promise, saturated / other, least, True)
    if findings.streams:
        wrong = sum(stream.wrong for stream in findings.streams)
        yield Check("wrong answers over HTTP", wrong, 0, False)


def _of_memory(findings: Findings) -> Iterator[Check]:
    resident = findings.resident
    if {QUARTET, CTRANSLATE2} <= resident.keys():
        more = resident[QUARTET] - resident[CTRANSLATE2]
        yield Check("resident more than CTranslate2's server", more, _MORE_MEMORY, False, "MiB")
