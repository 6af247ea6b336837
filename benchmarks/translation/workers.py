"""Processes of `benchmarks.translation.worker`, each with one engine."""

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

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

    def translate(self, texts: Sequence[str], batch: int, beams: int) -> Mapping[str, Any]:
        """Return seconds, processor time and answers. Raises RuntimeError: it ended."""
        asked = json.dumps({"texts": list(texts), "batch": batch, "beams": beams})
        if self._process.stdin is None or self._process.stdout is None:
            raise RuntimeError("the worker has no pipes")
        self._process.stdin.write(asked + "\n")
        self._process.stdin.flush()
        if not (line := self._process.stdout.readline()):
            raise RuntimeError(f"the worker of {self.engine} ended")
        found: Mapping[str, Any] = json.loads(line)
        return found
