"""What the project promises of in-flight translation, compared with what was measured."""

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.targets import Check
from benchmarks.translation.findings import CTRANSLATE2, PLAIN, QUARTET, Findings

STATIC = {1: 1.6, 8: 1.6, 32: 1.1}
"""Least target tokens a second in units of CTranslate2's, by batch size: of one worker, for that is
what they were derived from."""

_MEAN, _P95, _SATURATED, _OVER_PLAIN, _MORE_MEMORY = 0.6, 0.7, 1.3, 1.5, 100.0


def checks(findings: Findings) -> Sequence[Check]:
    """Return every promise about something that was measured."""
    return [*_of_statics(findings), *_of_streams(findings), *_of_memory(findings)]


def fastest_ratios(findings: Findings) -> Mapping[int, float]:
    """Return, by batch size, greedy tokens a second over CTranslate2's, each in its best shape.

    That is for information: what is promised is of one batch at a time, as it was measured when it
    was promised.
    """
    pairs = {size: [findings.fastest(e, size) for e in (QUARTET, CTRANSLATE2)] for size in STATIC}
    return {
        size: ours.rate / theirs.rate for size, (ours, theirs) in pairs.items() if ours and theirs
    }


def _of_statics(findings: Findings) -> Iterator[Check]:
    for batch, least in STATIC.items():
        ours, theirs = (findings.alone(e, batch) for e in (QUARTET, CTRANSLATE2))
        if ours and theirs:
            promise = f"batches of {batch}, one worker: tokens a second over CTranslate2's"
            yield Check(promise, ours.rate / theirs.rate, least, True)
    greedy = [s.right for s in findings.speeds if s.beams == 1 and s.engine in findings.exact]
    if greedy:
        yield Check("right answers in batches", min(greedy), 1.0, True)


def _of_streams(findings: Findings) -> Iterator[Check]:
    for beams in sorted({stream.beams for stream in findings.streams}):
        yield from _of_beams(findings, beams)
    if findings.streams:
        exact = [stream for stream in findings.streams if stream.engine in findings.exact]
        wrong = sum(stream.wrong for stream in exact)
        refused = sum(stream.refused for stream in findings.streams)
        yield Check("wrong answers and refusals over HTTP", wrong + refused, 0, False)


def _of_beams(findings: Findings, beams: int) -> Iterator[Check]:
    many = "" if beams == 1 else f", {beams} beams"
    for of, most in (("mean", _MEAN), ("p95", _P95)):
        ours, theirs = (findings.latency(e, of, beams) for e in (QUARTET, CTRANSLATE2))
        if ours and theirs:
            promise = f"random arrivals{many}: {of} latency over CTranslate2's"
            yield Check(promise, ours / theirs, most, False)
    saturated = findings.saturated(QUARTET, beams)
    for engine, least in ((CTRANSLATE2, _SATURATED), (PLAIN, _OVER_PLAIN)):
        other = findings.saturated(engine, beams)
        if saturated and other:
            promise = f"saturation{many}: tokens a second over {engine}"
            yield Check(promise, saturated / other, least, True)


def _of_memory(findings: Findings) -> Iterator[Check]:
    resident = findings.resident
    if {QUARTET, CTRANSLATE2} <= resident.keys():
        more = resident[QUARTET] - resident[CTRANSLATE2]
        yield Check("resident more than CTranslate2's server", more, _MORE_MEMORY, False, "MiB")
