"""The process ends, whatever its threads do."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration  # it starts processes

ROOT = Path(__file__).parents[2]
LOG = "import logging; logging.basicConfig(format='%(message)s: %(reason)s')\n"
LASTING = (
    "import threading, time\n"
    "from concurrent.futures import ThreadPoolExecutor\n"
    "threads = ThreadPoolExecutor(2)\n"
    "threads.submit(time.sleep, 3600)\n"
    "threads.shutdown(wait=False)\n"
)


def ended(script: str) -> tuple[int, str]:
    """Return the exit status and what was logged."""
    command = [sys.executable, "-c", LOG + script]
    ran = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
    )
    return ran.returncode, ran.stderr.strip()


def test_threads_that_compute_are_left_behind() -> None:
    script = LASTING + "from service.api.server import leave_threads_behind\nleave_threads_behind()"
    said = "process ended with work left undone: 1 threads still compute"
    assert ended(script) == (1, said)


def test_idle_threads_are_no_reason_to_abandon_anything() -> None:
    script = LASTING.replace("3600", "0") + (
        "from service.api.server import leave_threads_behind\nleave_threads_behind()"
    )
    assert ended(script) == (0, "")


def test_a_main_thread_that_is_stuck_does_not_keep_the_process() -> None:
    script = (
        "import time\nfrom service.api.server import end_within\nend_within(0.2)\ntime.sleep(3600)"
    )
    assert ended(script) == (1, "process ended with work left undone: the stop took too long")


def test_a_process_that_ends_in_time_is_not_disturbed() -> None:
    assert ended("from service.api.server import end_within\nend_within(3600)") == (0, "")
