"""A real Redis of one's own: started on a free loopback port, and mistreated on demand."""

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

from loadtest.service_process import free_port

_START_SECONDS = 10.0


def redis_program() -> str | None:
    """Return the path of redis-server, if it is installed."""
    return shutil.which("redis-server")


class RedisServer:
    """One redis-server process that keeps nothing on disk. Only what it started is ever ended."""

    def __init__(self, program: str, folder: Path, *options: str) -> None:
        self._command = [program, "--save", "", "--appendonly", "no", "--dir", str(folder)]
        self._command += ["--bind", "127.0.0.1", *options]
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers. Raises RuntimeError if it does not."""
        self._process = subprocess.Popen(
            [*self._command, "--port", str(self.port)], stdout=subprocess.DEVNULL
        )
        patience = time.monotonic() + _START_SECONDS
        while not self._talks():
            if self._process.poll() is not None:
                raise RuntimeError("redis-server ended at once")
            if time.monotonic() > patience:
                raise RuntimeError("redis-server does not answer")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it without a word to its clients but the closed connections."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stall(self) -> None:
        """Let it keep its connections and accept new ones, and answer nothing."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on, beginning with what was sent to it meanwhile."""
        self._signal(signal.SIGCONT)

    def restart(self) -> None:
        """Kill it and start it again, empty, on the same port."""
        self.kill()
        self.start()

    def _signal(self, number: int) -> None:
        if self._process is not None:
            os.kill(self._process.pid, number)

    def _talks(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith((b"+PONG", b"-NOAUTH"))
        except OSError:
            return False
