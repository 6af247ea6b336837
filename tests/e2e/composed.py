"""The project's compose file, driven as a user drives it.

Two variables fit it to a machine: `E2E_OVERLAYS`, more compose files, and `E2E_WITHOUT`, services
that are left out; both separated by commas.
"""

import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]
PROJECT = "quartet-e2e"
IMAGE = "quartet:e2e"
NETWORK = f"{PROJECT}_default"
_ENVIRONMENT = Path(__file__).with_name("e2e.env")
_LOAD = Path(__file__).with_name("load.py")
_SERVICES = ("quartet", "redis", "prometheus", "grafana")


def _split(name: str) -> list[str]:
    return [part for part in os.environ.get(name, "").split(",") if part]


SERVICES = [name for name in _SERVICES if name not in _split("E2E_WITHOUT")]


def run(*command: str, seconds: float = 120) -> str:
    """Run a command and return what it says; show everything it said if it fails."""
    done = subprocess.run(
        command,
        check=False,
        cwd=ROOT,
        env=_environment(),
        text=True,
        capture_output=True,
        timeout=seconds,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _environment() -> dict[str, str]:
    # The shell's settings would win over those of the file.
    mine = {line.split("=")[0] for line in _ENVIRONMENT.read_text("ascii").splitlines()}
    return {
        name: value
        for name, value in os.environ.items()
        if name not in mine and not name.startswith(("QUARTET_", "COMPOSE_"))
    }


def until(holds: Callable[[], Any], seconds: float, what: str) -> None:
    """Wait until something holds; the server may not listen yet."""
    patience = time.monotonic() + seconds
    while True:
        try:
            if holds():
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < patience, f"not within {seconds:g} s: {what}"
        time.sleep(0.5)


class Composed:
    """One compose project of its own name; only its containers are ever touched."""

    def __init__(self) -> None:
        files = ["docker-compose.yml", *_split("E2E_OVERLAYS")]
        self._command = [
            *_compose_program(),
            *("--project-name", PROJECT),
            *("--env-file", str(_ENVIRONMENT)),
            *(part for file in files for part in ("-f", file)),
        ]

    def __call__(self, *arguments: str, seconds: float = 180) -> str:
        """Run one of compose's commands."""
        return run(*self._command, *arguments, seconds=seconds)

    def containers(self, service: str) -> list[str]:
        """Return the ids of a service's containers, running or not."""
        return run(
            *("docker", "ps", "--all", "--quiet", "--no-trunc"),
            *("--filter", f"label=com.docker.compose.project={PROJECT}"),
            *("--filter", f"label=com.docker.compose.service={service}"),
        ).split()

    def inspect(self, container: str) -> Any:
        """Return all that Docker knows of a container."""
        return json.loads(run("docker", "inspect", container))[0]

    def urls(self, service: str, *containers: str) -> list[str]:
        """Return where these containers of a service are published, or all of them."""
        published = [
            one
            for container in containers or self.containers(service)
            for bindings in self.inspect(container)["NetworkSettings"]["Ports"].values()
            for one in bindings or ()
        ]
        assert {one["HostIp"] for one in published} <= {"127.0.0.1"}
        return [f"http://127.0.0.1:{one['HostPort']}" for one in published]

    def wait_until_healthy(self, services: Sequence[str], seconds: float) -> None:
        """Wait until Docker says that every container of the services is healthy."""
        for service in services:
            for container in self.containers(service):

                def healthy(container: str = container) -> bool:
                    return bool(self.inspect(container)["State"]["Health"]["Status"] == "healthy")

                until(healthy, seconds, f"{service} healthy")


class Load:
    """Clients inside the project's network, where refused and lost connections differ."""

    def __init__(self, seconds: float, *options: str) -> None:
        with _LOAD.open("rb") as script:
            self._process = subprocess.Popen(
                [
                    *("docker", "run", "--rm", "--interactive", "--network", NETWORK),
                    *("--entrypoint", "python", IMAGE, "-", f"{seconds:g}", *options),
                ],
                stdin=script,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )

    def result(self) -> Any:
        """Wait for the end and return what the clients saw."""
        said, complaints = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, complaints.decode()
        return json.loads(said)


def _compose_program() -> list[str]:
    candidates = (["docker", "compose"], ["docker-compose"])
    for candidate in candidates:
        if shutil.which(candidate[0]) is not None:
            asked = subprocess.run([*candidate, "version"], capture_output=True, check=False)
            if asked.returncode == 0:
                return candidate
    raise RuntimeError("this needs Docker with `docker compose` or docker-compose")
