"""Runs code in `.venv/clients`, where the packages of other services' clients are."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.real_service import ROOT, RealService

DOCUMENT = ROOT / "docs" / "clients.md"
ADDRESS, GRPC_ADDRESS = "127.0.0.1:8000", "127.0.0.1:8001"
_MARK = "@result "
_SECONDS = 300
_SNIPPET = re.compile(r"^### (.+?)\n(.*?)^```python\n(.*?)^```", re.M | re.S)


def python_of_clients() -> Path:
    """Return the interpreter with the clients; without one, skip, or fail in CI."""
    python = Path(sys.prefix) / "clients" / "bin" / "python"
    if python.exists():
        return python
    reason = "the clients are not installed: `make test-integration` installs them"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def snippets() -> dict[str, str]:
    """Return the snippets of docs/clients.md by their headings."""
    return {name: code for name, _, code in _SNIPPET.findall(DOCUMENT.read_text(encoding="utf-8"))}


def run(service: RealService, code: str, result: str) -> Any:
    """Run code as a user of the client would; return the value of an expression after it.

    Args:
        service: takes the place of the address in the code.
        code: a snippet.
        result: an expression whose value can be JSON.
    """
    address = service.url.removeprefix("http://")
    code = code.replace(ADDRESS, address).replace(GRPC_ADDRESS, service.grpc_address)
    ending = f"import json as _json\nprint({_MARK!r} + _json.dumps({result}))\n"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HAYSTACK_TELEMETRY_ENABLED": "False"}
    done = subprocess.run(
        [str(python_of_clients()), "-c", f"{code}\n{ending}"],
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
        env=environment,
        cwd=ROOT / "tests",
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.rpartition(_MARK)[2])
