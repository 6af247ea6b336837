"""Sentences that come one by one, to the served service and to CTranslate2 behind HTTP."""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks.servers import Server, free_port
from benchmarks.translation.client import as_fast_as_possible, at_random_times
from benchmarks.translation.countdown import Sentence
from benchmarks.translation.findings import CTRANSLATE2, PLAIN, QUARTET, Findings, Stream
from benchmarks.translation.folders import Folders

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

    sentences: Sequence[Sentence]
    rounds: int
    tried: Sequence[tuple[int, int, int]]
    """Workers, threads and largest batch of CTranslate2's server, of which the best is taken."""

    @property
    def steps(self) -> int:
        """Return how many measurements there are."""
        return len(self.tried) + 5 * self.rounds


def measure_streams(
    folders: Folders, plan: StreamPlan, logs: Path, before: Findings, tell: Callable[[str], None]
) -> Findings:
    """Measure saturation and random arrivals, the servers in turn."""
    best = _best_settings(folders, plan, logs, tell)
    with ExitStack() as stack:
        servers = {
            engine: stack.enter_context(server)
            for engine, server in _servers(folders, best, logs).items()
        }
        for server in servers.values():
            server.wait_ready()
            as_fast_as_possible("", server.port, plan.sentences[:_WARM_UP], CONNECTIONS)
        streams: list[Stream] = []
        for number in range(plan.rounds):
            for engine, server in servers.items():
                tell(f"{engine}: saturation")
                streams.append(
                    as_fast_as_possible(engine, server.port, plan.sentences, CONNECTIONS)
                )
            offered = SHARE * _capacity(streams)
            for engine in (CTRANSLATE2, QUARTET):
                tell(f"{engine}: {offered:.0f} sentences a second")
                port = servers[engine].port
                streams.append(at_random_times(engine, port, plan.sentences, offered, number))
        resident = {engine: server.memory().rss for engine, server in servers.items()}
    return replace(before, streams=streams, resident=resident, reference=best)


def _capacity(streams: Sequence[Stream]) -> float:
    """Return CTranslate2's sentences a second at saturation."""
    return median(
        len(stream.latencies) / stream.seconds
        for stream in streams
        if stream.engine == CTRANSLATE2 and stream.offered is None
    )


def _servers(folders: Folders, best: tuple[int, int, int], logs: Path) -> Mapping[str, Server]:
    return {
        CTRANSLATE2: _ctranslate2(folders.ctranslate2, best, logs),
        QUARTET: Server.quartet(folders.quartet, logs / "quartet.log", _SETTINGS),
        PLAIN: Server.quartet(folders.plain, logs / "plain.log", _SETTINGS),
    }


def _ctranslate2(folder: Path, settings: tuple[int, int, int], logs: Path) -> Server:
    port = free_port()
    module = "benchmarks.translation.ctranslate2_server"
    command = [sys.executable, "-m", module, str(folder), str(port), *map(str, settings)]
    return Server(command, {}, logs / "ctranslate2.log", port)


def _best_settings(
    folders: Folders, plan: StreamPlan, logs: Path, tell: Callable[[str], None]
) -> tuple[int, int, int]:
    """Return the settings with which CTranslate2 answers most at saturation."""
    rates = {}
    for settings in plan.tried:
        tell(f"ctranslate2: {settings[0]} workers of {settings[1]}, batches of {settings[2]}")
        with _ctranslate2(folders.ctranslate2, settings, logs) as server:
            server.wait_ready()
            as_fast_as_possible("", server.port, plan.sentences[:_WARM_UP], CONNECTIONS)
            found = as_fast_as_possible(CTRANSLATE2, server.port, plan.sentences, CONNECTIONS)
            rates[settings] = found.rate
    return max(rates, key=rates.__getitem__)
