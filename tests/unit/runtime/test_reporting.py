"""Loading a model reports nothing to third parties."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.looptime(False), pytest.mark.integration]  # it starts processes

RUN_A_SESSION = """
import time
import {first}
import onnxruntime
from onnxruntime.datasets import get_example
onnxruntime.InferenceSession(get_example("mul_1.onnx"), providers=["CPUExecutionProvider"])
time.sleep(0.5)
"""


@pytest.mark.parametrize("first", ["service.runtime.session", "models", "benchmarks"])
def test_onnxruntime_keeps_no_id_of_this_machine_and_reports_nothing(
    first: str, tmp_path: Path
) -> None:
    # It is silent in CI by itself, and the environment may disable it too.
    loud = {k: v for k, v in os.environ.items() if k.startswith("PYTHON") or k == "PATH"}
    subprocess.run(
        [sys.executable, "-c", RUN_A_SESSION.format(first=first)],
        check=True,
        env={**loud, "HOME": str(tmp_path)},
        cwd=Path(__file__).parents[3],
        timeout=300,
    )
    assert list(tmp_path.rglob("*")) == []
