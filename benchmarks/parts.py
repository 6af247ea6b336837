"""`python -m benchmarks.parts`: which part of the device each of ten busy models gets.

The models are copies of a starter that classifies a text and of a detector, whose batches take
several times as long. Each has clients of its own, enough to keep it busy.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import mean

from rich.console import Console

from benchmarks.load import closed_loop
from benchmarks.samples import counter_delta
from benchmarks.servers import Server
from benchmarks.subjects import Sources, Subject, prepare
from benchmarks.target import Target

_MOST_DEVIATION = 0.1


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the part of each model; return 1 if one is more than a tenth from an equal part."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.parts", description=__doc__)
    add = parser.add_argument
    add("--small", type=int, default=5, help="copies of the classifier")
    add("--large", type=int, default=5, help="copies of the detector")
    add("--clients", type=int, default=16, help="of each model")
    add("--seconds", type=float, default=10.0, help="of the load")
    add("--cache", type=Path, default=Path.home() / ".cache" / "quartet-benchmarks")
    add("--starters", type=Path, default=Path("models/repository"))
    given = parser.parse_args(arguments)
    sources = Sources(given.cache, given.starters)
    counts = {"news-topics": given.small, "detector": given.large}
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder, "models")
        copies = [
            _copy(prepare(name, sources), models, f"{name}-{number}")
            for name, count in counts.items()
            for number in range(1, count + 1)
        ]
        settings = {"QUARTET_CACHE__ENABLED": "false"}
        with Server.quartet(models, Path(folder, "log"), settings) as server:
            server.wait_ready()
            targets = [Target.of(copy, server.port, Path(folder, copy.name)) for copy in copies]
            seconds = _load(server, targets, given)
    return _report({copy.name: spent for copy, spent in zip(copies, seconds, strict=True)})


def _copy(subject: Subject, models: Path, name: str) -> Subject:
    """Copy a subject's model to a repository under another name, which its requests give."""
    shutil.copytree(subject.repository / subject.name, models / name)
    if subject.content_type != "application/json":
        return replace(subject, name=name, route=f"{subject.route}?model={name}")
    bodies = [json.dumps({"text": text, "model": name}).encode() for text in subject.items]
    return replace(subject, name=name, items=bodies)


def _load(server: Server, targets: Sequence[Target], given: argparse.Namespace) -> Sequence[float]:
    """Keep all models busy; return the seconds that the batches of each took in the middle."""
    with ThreadPoolExecutor(len(targets) + 1) as threads:
        loads = [
            threads.submit(closed_loop, target, given.clients, given.seconds, "client")
            for target in targets
        ]
        server.cpu_share(given.seconds / 4)  # all have begun
        before = server.get("/metrics")
        server.cpu_share(given.seconds / 2)
        after = server.get("/metrics")
        for load in loads:
            load.result()
    return [
        counter_delta(before, after, "inference_compute_seconds_sum", {"model": target.bodies.name})
        for target in targets
    ]


def _report(seconds: Mapping[str, float]) -> int:
    equal = mean(seconds.values())
    print_ = Console(width=120).print
    for name, spent in seconds.items():
        print_(f"{name}: {spent:.2f} s of computation, {spent / equal:.2f} of an equal part")
    return int(any(abs(spent / equal - 1) > _MOST_DEVIATION for spent in seconds.values()))


if __name__ == "__main__":
    sys.exit(main())
