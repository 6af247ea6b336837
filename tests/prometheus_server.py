"""A real Prometheus for tests: this project's configuration, one target, a scrape a second."""

import os
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.redis_server import free_port

FOLDER = Path(__file__).parents[1] / "deploy" / "prometheus"
_START_SECONDS = 20.0

Sample = tuple[Mapping[str, str], float]


class PrometheusServer:
    """One prometheus process on a free loopback port. Only this process is ever ended."""

    def __init__(self, program: str, folder: Path, target: str) -> None:
        config = folder / "prometheus.yml"
        config.write_text(yaml.safe_dump(configuration(target)), encoding="utf-8")
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        self._log = (folder / "prometheus.log").open("wb")
        options = [f"--config.file={config}", f"--storage.tsdb.path={folder / 'data'}"]
        options += [f"--web.listen-address={address}", "--log.level=warn"]
        self.process = subprocess.Popen(
            [program, *options], stdout=self._log, stderr=subprocess.STDOUT
        )
        self._wait_until_ready()

    def query(self, expr: str, at: float) -> Sequence[Sample]:
        """Return the labels and value of each series of an instant query."""
        asked = {"query": expr, "time": str(at)}
        answer = httpx.post(f"{self.url}/api/v1/query", data=asked, timeout=60).json()
        assert answer["status"] == "success", (expr, answer)
        return [(one["metric"], float(one["value"][1])) for one in answer["data"]["result"]]

    def end(self) -> None:
        """Stop the process."""
        self.process.terminate()
        self.process.wait(timeout=120)
        self._log.close()

    def _wait_until_ready(self) -> None:
        patience = time.monotonic() + _START_SECONDS
        while True:
            said = Path(self._log.name).read_text(encoding="utf-8")
            assert self.process.poll() is None, said
            assert time.monotonic() < patience, said
            try:
                if httpx.get(f"{self.url}/-/ready", timeout=1).is_success:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.05)


def configuration(target: str) -> dict[str, Any]:
    """Return the project's configuration, but for the pace and for who is scraped."""
    config: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {
        "scrape_interval": "1s",
        "scrape_timeout": "1s",
        "evaluation_interval": "1s",
    }
    config["rule_files"] = [str(FOLDER / rules) for rules in config["rule_files"]]
    (quartet,) = [job for job in config["scrape_configs"] if job["job_name"] == "quartet"]
    del quartet["dns_sd_configs"]
    quartet["static_configs"] = [{"targets": [target]}]
    config["scrape_configs"] = [quartet]
    return config


def prometheus_program(name: str = "prometheus") -> str:
    """Return the path of prometheus or promtool; without it, skip, or fail in CI."""
    if program := shutil.which(name):
        return program
    if os.environ.get("CI"):
        pytest.fail(f"{name} is not installed, and CI must not skip its tests")
    pytest.skip(f"{name} is not installed")
