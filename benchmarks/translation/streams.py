"""Sentences that come one by one, to the served service and to CTranslate2 behind HTTP."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.servers import Server, free_port
from benchmarks.translation.client import as_fast_as_possible, at_random_times
from benchmarks.translation.findings import CTRANSLATE2, PLAIN, Findings, Stream
from benchmarks.translation.subjects import Load, Question, Subject

CONNECTIONS = 64
SHARE = 0.8
"""Of CTranslate2's sentences a second at saturation: what the random stream offers."""

_WARM_UP = 32
"""Sentences."""

_SETTINGS: Mapping[str, str] = {
    "QUARTET_CACHE__ENABLED": "false",
    "QUARTET_LIMITS__REQUEST_TIMEOUT_SECONDS": "60",
}


@dataclass(frozen=True, slots=True)
class StreamPlan:
    """What is sent, and how often."""

    questions: Sequence[Question]
    rounds: int
    tried: Sequence[tuple[int, int, int]]
    """Workers, threads and largest batch of CTranslate2's server, of which the best is taken."""


def measure_streams(
    subject: Subject, plan: StreamPlan, logs: Path, before: Findings, tell: Callable[[str], None]
) -> Findings:
    """Measure saturation and random arrivals with each number of beams."""
    found = before
    for beams in subject.beams:
        load = Load(plan.questions, beams, subject.count)
        found = _measured(subject, plan, load, logs, found, tell)
    return found


def _measured(
    subject: Subject,
    plan: StreamPlan,
    load: Load,
    logs: Path,
    before: Findings,
    tell: Callable[[str], None],
) -> Findings:
    """Measure the servers in turn."""
    best = _best_settings(subject, plan, load, logs, tell)
    with ExitStack() as stack:
        servers = {
            engine: stack.enter_context(server)
            for engine, server in _servers(subject, best, load.beams, logs).items()
        }
        for server in servers.values():
            server.wait_ready()
            _warm_up(server, load)
        streams: list[Stream] = []
        for number in range(plan.rounds):
            for engine, server in servers.items():
                tell(f"{engine}: saturation")
                streams.append(as_fast_as_possible(engine, server.port, load, CONNECTIONS))
            offered = SHARE * _capacity(streams)
            for engine in (engine for engine in servers if engine != PLAIN):
                tell(f"{engine}: {offered:.0f} sentences a second")
                port = servers[engine].port
                streams.append(at_random_times(engine, port, load, offered, number))
        resident = {engine: server.memory().rss for engine, server in servers.items()}
    return replace(
        before,
        streams=[*before.streams, *streams],
        resident=resident,
        reference={**before.reference, load.beams: best},
    )


def _warm_up(server: Server, load: Load) -> None:
    few = replace(load, questions=load.questions[:_WARM_UP])
    as_fast_as_possible("", server.port, few, CONNECTIONS)


def _capacity(streams: Sequence[Stream]) -> float:
    """Return CTranslate2's sentences a second at saturation."""
    return median(
        len(stream.latencies) / stream.seconds
        for stream in streams
        if stream.engine == CTRANSLATE2 and stream.offered is None
    )


def _servers(
    subject: Subject, best: tuple[int, int, int], beams: int, logs: Path
) -> Mapping[str, Server]:
    """Return the servers; the service serves the repository that a version's folder is in."""
    return {
        engine: _ctranslate2(folder, best, beams, logs)
        if engine == CTRANSLATE2
        else Server.quartet(folder.parent.parent, logs / f"{engine}.log", _SETTINGS)
        for engine, folder in subject.folders.items()
    }


def _ctranslate2(folder: Path, settings: tuple[int, int, int], beams: int, logs: Path) -> Server:
    port = free_port()
    module = "benchmarks.translation.ctranslate2_server"
    command = [sys.executable, "-m", module, str(folder), str(port), *map(str, settings)]
    return Server([*command, str(beams)], {}, logs / "ctranslate2.log", port)


def _best_settings(
    subject: Subject, plan: StreamPlan, load: Load, logs: Path, tell: Callable[[str], None]
) -> tuple[int, int, int]:
    """Return the settings with which CTranslate2 answers most at saturation."""
    rates = {}
    for settings in plan.tried:
        tell(f"ctranslate2: {settings[0]} workers of {settings[1]}, batches of {settings[2]}")
        with _ctranslate2(subject.folders[CTRANSLATE2], settings, load.beams, logs) as server:
            server.wait_ready()
            _warm_up(server, load)
            found = as_fast_as_possible(CTRANSLATE2, server.port, load, CONNECTIONS)
            rates[settings] = found.rate
    return max(rates, key=rates.__getitem__)
