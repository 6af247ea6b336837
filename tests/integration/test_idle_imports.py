"""What a process that serves keeps in memory before it is asked for it."""

import json
import subprocess
import sys

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.looptime(False)]

_BUILD = """
import json, sys
import service.__main__
from service.api import Lifecycle
from service.app import build_app
from service.settings import read_settings

app = build_app(read_settings({}), Lifecycle())
app.openapi()
print(json.dumps(sorted(sys.modules)))
"""

LATER = {
    "av": "a video",
    "grpc": "server.grpc_port",
    "lap": "a video with tracking",
    "openvino": "a model that it computes",
    "opentelemetry.sdk": "traces.exporter",
    "pynvml": "an NVIDIA GPU",
    "redis": "cache.redis_url",
    "rich": "a command that prints tables",
    "service.requests.html": "an HTML document",
    "turbohtml": "an HTML document",
    "zstandard": "a body or an answer in zstd",
}
"""Modules, and what imports them."""


@pytest.fixture(scope="module")
def imported() -> set[str]:
    ended = subprocess.run(
        [sys.executable, "-c", _BUILD], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return set(json.loads(ended.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", LATER)
def test_a_process_that_waits_has_not_imported(module: str, imported: set[str]) -> None:
    assert "service.app" in imported
    assert module not in imported, f"only {LATER[module]} needs it"


@pytest.mark.parametrize("module", ["torch", "transformers", "onnx", "models"])
def test_serving_imports_nothing_of_training(module: str, imported: set[str]) -> None:
    assert module not in imported
