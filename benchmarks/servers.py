"""Servers under test: started as a user starts them, watched, and stopped."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from benchmarks.target import HOST

_POLL_SECONDS = 0.01
_READY_SECONDS = 120.0
_STOP_SECONDS = 40.0
_ANSWER_SECONDS = 60.0
_MEBIBYTE = 2**20


@dataclass(frozen=True, slots=True)
class Memory:
    """What a server and its children keep resident, in MiB."""

    rss: float
    """All pages mapped; a page that is mapped twice counts twice."""
    pss: float
    """Pages, each divided by how many mappings share it; 0 where the system does not tell."""


class Server:
    """A process that serves HTTP on a free port of the loopback interface."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], log: Path, port: int
    ) -> None:
        """Start it. What it writes goes to `log`."""
        self.port = port
        self.log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("QUARTET_")}
        self._started = time.perf_counter()
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                command, env=inherited | dict(environment), stdout=output, stderr=output
            )

    @classmethod
    def quartet(
        cls, repository: Path, log: Path, settings: Mapping[str, str] | None = None
    ) -> "Server":
        """Start the service on a repository; `settings` are more of its variables."""
        port = free_port()
        environment = {
            "QUARTET_MODELS__REPOSITORY": str(repository.resolve()),
            "QUARTET_SERVER__PORT": str(port),
            **(settings or {}),
        }
        return cls([sys.executable, "-m", "service", "serve"], environment, log, port)

    @classmethod
    def naive(cls, folder: Path, log: Path) -> "Server":
        """Start the naive server on a version's folder."""
        port = free_port()
        command = [sys.executable, "-m", "benchmarks.naive_server", str(folder), str(port)]
        return cls(command, {}, log, port)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.stop()

    def wait_ready(self) -> float:
        """Return seconds from the start to the first 200 of /health/ready.

        Raises:
            RuntimeError: it ended, or was not ready in two minutes.
        """
        while self._process.poll() is None and self._age() < _READY_SECONDS:
            try:
                self.get("/health/ready")
            except (OSError, HTTPException):
                time.sleep(_POLL_SECONDS)
            else:
                return self._age()
        tail = self.log.read_text(encoding="utf-8", errors="replace")[-2000:]
        raise RuntimeError(f"the server did not become ready:\n{tail}")

    @property
    def pid(self) -> int:
        """Return the number of its process."""
        return self._process.pid

    def pause(self) -> None:
        """Stop all its processes until `resume`, so that what they poll takes no processor time."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        """Let all its processes go on."""
        self._signal_all(signal.SIGCONT)

    def _signal_all(self, number: signal.Signals) -> None:
        for process in self._family():
            process.send_signal(number)

    def stop(self) -> int:
        """Send SIGTERM and wait; return the exit status. Children that outlive it are killed."""
        family: Sequence[psutil.Process] = []
        if self._process.poll() is None:
            self.resume()
            family = self._family()
            self._process.send_signal(signal.SIGTERM)
        try:
            return self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()
        finally:
            for process in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()

    def get(self, path: str) -> str:
        """Return what a GET answers. Raises OSError, also on a status of 400 and more."""
        return self._ask("GET", path, None, {}).decode()

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Any:
        """Return the JSON that a POST answers. Raises OSError, as `get` does."""
        return json.loads(self._ask("POST", path, body, headers))

    def _ask(self, method: str, path: str, body: bytes | None, headers: Mapping[str, str]) -> bytes:
        connection = HTTPConnection(HOST, self.port, timeout=_ANSWER_SECONDS)
        try:
            connection.request(method, path, body, dict(headers))
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise OSError(f"{method} {path}: {response.status} {content[:300]!r}")
        return content

    def memory(self) -> Memory:
        """Return what is resident now."""
        found = [process.memory_full_info() for process in self._family()]
        return Memory(
            sum(info.rss for info in found) / _MEBIBYTE,
            sum(getattr(info, "pss", 0) for info in found) / _MEBIBYTE,
        )

    def peak_memory(self) -> float:
        """Return the most that its first process has had resident, in MiB. Linux only."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        peak = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
        return int(peak) / 2**10

    def cpu_share(self, seconds: float) -> float:
        """Wait so long, and return the processor time used meanwhile as a share of one core."""
        before, started = self.cpu_seconds(), time.perf_counter()
        time.sleep(seconds)
        return (self.cpu_seconds() - before) / (time.perf_counter() - started)

    def cpu_seconds(self) -> float:
        """Return the processor time used so far."""
        times = [process.cpu_times() for process in self._family()]
        return float(sum(time.user + time.system for time in times))

    def loop_seconds(self) -> float:
        """Return the processor time of the main thread, where the event loop runs."""
        threads = psutil.Process(self._process.pid).threads()
        main = next(thread for thread in threads if thread.id == self._process.pid)
        return float(main.user_time + main.system_time)

    def _family(self) -> Sequence[psutil.Process]:
        parent = psutil.Process(self._process.pid)
        return [parent, *parent.children(recursive=True)]

    def _age(self) -> float:
        return time.perf_counter() - self._started


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])
