"""The smoke scenario, shortly, on a real service."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest import service_process
from loadtest.scenario import FOLDER
from tests.integration.real_service import ROOT, RealService, real_service

pytestmark = pytest.mark.looptime(False)


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    with real_service(tmp_path_factory.mktemp("service")) as running:
        yield running


def run(
    service: RealService,
    folder: Path,
    allowed_ms: float,
    *options: str,
    scenario: str = "smoke",
) -> tuple[int, str]:
    """Run a scenario with another level: the machine of a test may be slow and busy.

    Locust waits a second for its workers to report their users; on a busy machine they take longer.
    Here it does not wait at all.
    """
    text = (FOLDER / f"{scenario}.toml").read_text(encoding="utf-8")
    text = re.sub(r"\b(p\d\d_ms) = \d+", rf"\1 = {allowed_ms}", text)
    path = folder / "own.toml"
    path.write_text(text.replace("max_lag_p99_ms = 100.0", "max_lag_p99_ms = 5000.0"))
    command = [sys.executable, "-m", "loadtest", str(path), "--host", service.url]
    command += ["--out", str(folder / "out"), "--time-factor", "0.2", "--seed", "1", *options]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        env={**os.environ, "LOCUST_WAIT_FOR_WORKERS_REPORT_AFTER_RAMP_UP": "0"},
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("scenario", "options"),
    [("smoke", ()), ("smoke", ("--workers", "2")), ("protocols", ("--rate-factor", "0.5"))],
    ids=["alone", "distributed", "protocols"],
)
def test_every_kind_is_answered_and_reported(
    service: RealService, tmp_path: Path, scenario: str, options: tuple[str, ...]
) -> None:
    status, output = run(service, tmp_path, 9000, *options, scenario=scenario)
    assert status == 0, output
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"] == "held"
    assert all(row["answered"] == row["sent"] for row in report["results"])
    # Kinds are drawn at random, and the rarest may not come up.
    assert sum(row["sent"] > 0 for row in report["results"]) >= 0.8 * len(report["results"])
    assert report["run"]["processes"] == (2 if "--workers" in options else 1)
    assert (tmp_path / "out" / "report.png").read_bytes().startswith(b"\x89PNG")
    assert "The service level was held." in (tmp_path / "out" / "report.html").read_text()


def test_a_level_that_is_not_held_fails_the_run_and_is_named(
    service: RealService, tmp_path: Path
) -> None:
    status, output = run(service, tmp_path, 0.001)
    assert status == 1, output
    assert "smoke: translate, p50" in output


def test_of_a_service_that_does_not_become_ready_the_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_process, "_READY_SECONDS", 15.0)
    version = tmp_path / "repository" / "halved" / "1"
    version.mkdir(parents=True)
    (version / "model.toml").write_text('task = "classify"\n', encoding="utf-8")
    settings = {"QUARTET_MODELS__REPOSITORY": str(tmp_path / "repository")}
    with (
        pytest.raises(RuntimeError, match="halved"),
        service_process.serving(settings, tmp_path / "service.log"),
    ):
        pass
