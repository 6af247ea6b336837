"""Progress bars of `models` do not flood a log."""

import subprocess
import sys

import pytest

pytestmark = [pytest.mark.looptime(False), pytest.mark.integration]

# A clock of its own: two hours pass, whatever the machine takes.
SCRIPT = """
import models
import tqdm.std
clock = iter(range(1_000_000))
tqdm.std.time = lambda: next(clock) / 10
for _ in tqdm.std.tqdm(range(20_000), miniters=1):
    pass
"""


def lines(environment: dict[str, str]) -> int:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        capture_output=True,
        text=True,
        env=environment,
        timeout=120,
        check=True,
    )
    return done.stderr.count("it/s")


def test_a_log_gets_a_line_a_minute_at_most() -> None:
    assert 0 < lines({}) < 140


def test_the_interval_can_be_set() -> None:
    assert lines({"TQDM_MININTERVAL": "0.1", "TQDM_DELAY": "0"}) > 1_000
