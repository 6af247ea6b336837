"""The service as a user starts it: a process of its own, on the starter models."""

import os
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.redis_server import free_port

ROOT = Path(__file__).parents[2]
STARTERS = ROOT / "models" / "repository"
MEASUREMENTS = Path(tempfile.gettempdir()) / "quartet-measurements"
"""Shared by all tests and runs: services start faster."""
TOKEN = "only-for-this-test"
_READY_SECONDS = 300.0


class RealService:
    """One `python -m service serve`. Only this process is ever ended."""

    grpc_address = ""
    """Of the gRPC server, if a test has chosen its port."""

    def __init__(
        self, folder: Path, *options: str, authority: Path | None = None, port: int | None = None
    ) -> None:
        scheme = "http" if authority is None else "https"
        self.url, self.folder = f"{scheme}://127.0.0.1:{port or free_port()}", folder
        self._verify = True if authority is None else ssl.create_default_context(cafile=authority)
        self._log = (folder / "service.log").open("wb")
        listening = self.url.rpartition(":")[2]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("QUARTET_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "serve", "--server.port", listening, *options],
            cwd=ROOT,
            env={
                **environment,
                "QUARTET_ADMIN__TOKEN": TOKEN,
                "QUARTET_MODELS__MEASUREMENTS": str(MEASUREMENTS),
            },
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    @property
    def log(self) -> str:
        """Return what the process has said."""
        return Path(self._log.name).read_text(encoding="utf-8")

    def wait_until_ready(self) -> None:
        """Wait until every wanted model answers."""
        patience = time.monotonic() + _READY_SECONDS
        while True:
            assert self.process.poll() is None, self.log
            assert time.monotonic() < patience, self.log
            try:
                if httpx.get(f"{self.url}/health/ready", timeout=1, verify=self._verify).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)

    def end(self) -> None:
        """Stop the process, if it still runs."""
        self.process.terminate()
        self.process.wait(timeout=120)
        self._log.close()


@contextmanager
def real_service(
    folder: Path, *options: str, authority: Path | None = None
) -> Iterator[RealService]:
    """Run the service until the block ends; `authority` is a file that issued its certificate."""
    service = RealService(folder, *options, authority=authority)
    try:
        service.wait_until_ready()
        yield service
    finally:
        service.end()
