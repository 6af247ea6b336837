"""Runs code in `.venv/clients`, where the packages of other services' clients are."""

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.real_service import ROOT, RealService

DOCUMENT = ROOT / "docs" / "clients.md"
ADDRESS, GRPC_ADDRESS = "127.0.0.1:8000", "127.0.0.1:8001"
_MARK = "@result "
_SECONDS = 300
_ENVIRONMENT = {
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    # Not HF_HUB_OFFLINE, with which huggingface_hub calls no server at all.
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_ENDPOINT": "http://127.0.0.1:1",
}
_SNIPPET = re.compile(r"^### (.+)\n((?:(?!#|```).*\n)*)^```(\w+)\n([\s\S]*?)^```", re.M)


def python_of_clients() -> Path:
    """Return the interpreter with the clients; without one, skip, or fail in CI."""
    return _found(Path(sys.prefix) / "clients" / "bin" / "python")


def _found(path: Path) -> Path:
    if path.exists():
        return path
    reason = "the clients are not installed: `make test-integration` installs them"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def snippets(language: str = "python") -> dict[str, str]:
    """Return the snippets of docs/clients.md in a language by their headings."""
    found = _SNIPPET.findall(DOCUMENT.read_text(encoding="utf-8"))
    return {name: code for name, _, written_in, code in found if written_in == language}


def run(service: RealService, code: str, result: str) -> Any:
    """Run code as a user of the client would; return the value of an expression after it.

    Args:
        service: takes the place of the address in the code.
        code: a snippet.
        result: an expression whose value can be JSON.
    """
    ending = f"import json as _json\nprint({_MARK!r} + _json.dumps({result}))\n"
    return _output([str(python_of_clients()), "-c", _addressed(service, f"{code}\n{ending}")])


def run_javascript(service: RealService, code: str, result: str) -> Any:
    """Do the same with code for Node.js."""
    packages = _found(Path(sys.prefix) / "clients" / "node_modules")
    with tempfile.NamedTemporaryFile("w", suffix=".mjs", dir=packages.parent) as file:
        ending = f"console.log({_MARK!r} + JSON.stringify({result}));\n"
        file.write(_addressed(service, f"{code}\n{ending}"))
        file.flush()
        return _output(["node", file.name])


def _addressed(service: RealService, code: str) -> str:
    address = service.url.removeprefix("http://")
    return code.replace(ADDRESS, address).replace(GRPC_ADDRESS, service.grpc_address)


def _output(command: list[str]) -> Any:
    """Return what a program printed after the mark."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env={**os.environ, **_ENVIRONMENT},
        cwd=ROOT / "tests",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition(_MARK)[2])
