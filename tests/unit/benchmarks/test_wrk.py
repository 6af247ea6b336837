import subprocess
from pathlib import Path

import pytest

from benchmarks import wrk
from benchmarks.target import Target
from tests.sentences import sentence

OUTPUT = """\
Running 2s test @ http://127.0.0.1:8000
  1 threads and 8 connections
Requests/sec:     50.00
RESULT {"requests": 110, "microseconds": 2000000, "status": 10, "broken": 3, "p50": 20000, \
"p90": 30000, "p99": 40000, "most": 50000}
"""


def test_a_result_is_read_in_seconds() -> None:
    load = wrk.parse(OUTPUT, cpu_seconds=0.1)
    assert (load.answered.p50, load.answered.p90) == (0.02, 0.03)
    assert (load.answered.p99, load.answered.most) == (0.04, 0.05)
    assert load.generator_cpu == 0.05


def test_refusals_and_broken_connections_are_not_answers() -> None:
    load = wrk.parse(OUTPUT, cpu_seconds=0.1)
    assert load.answered.count == 100
    assert load.rate == 50.0
    assert {status: seen.count for status, seen in load.refused.items()} == {0: 10}
    assert load.errors == 3


def test_a_run_without_refusals_has_none() -> None:
    assert wrk.parse(OUTPUT.replace('"status": 10', '"status": 0'), 0.0).refused == {}


def test_output_without_a_result_is_refused() -> None:
    with pytest.raises(ValueError, check=sentence):
        wrk.parse("Running 2s test\nunable to connect\n", 0.0)


@pytest.mark.skipif(not wrk.is_installed(), reason="wrk is not installed")
def test_wrk_accepts_the_program_and_says_when_it_cannot_connect(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b'{"text": "\xe4\xbd\xa0 \\"quoted\\""}')
    uncached = {"Cache-Control": "no-store"}
    target = Target(1, "/v1/classify", "application/json", tmp_path, 1, uncached)
    program = tmp_path / "program.lua"
    program.write_text(wrk.script(target), encoding="utf-8")
    run = subprocess.run(
        ["wrk", "-t1", "-c1", "-d1s", "-s", program, "http://127.0.0.1:1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "unable to connect" in run.stderr
    assert "program.lua" not in run.stderr
