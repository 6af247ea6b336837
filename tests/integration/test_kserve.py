"""The manifests for KServe: held against its classes, and what they start is started."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.integration.clients.environment import python_of_clients
from tests.integration.real_service import ROOT, STARTERS
from tests.redis_server import free_port

FOLDER = ROOT / "deploy" / "kserve"
MANIFESTS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}
RUNTIME = MANIFESTS["runtime"]
(CONTAINER,) = RUNTIME["spec"]["containers"]


def misfits(*manifests: Any) -> list[list[str]]:
    """Return what does not fit KServe's classes, by manifest."""
    done = subprocess.run(
        [str(python_of_clients()), str(Path(__file__).parent / "charts" / "kserve_fields.py")],
        input=json.dumps(manifests),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: list[list[str]] = json.loads(done.stdout)
    return found


def test_every_field_is_one_that_kserve_knows() -> None:
    wrong = json.loads(json.dumps(RUNTIME))
    wrong["spec"]["containers"][0]["arguments"] = []
    wrong["spec"]["protocolVersions"] = "v2"
    *right, found = misfits(*MANIFESTS.values(), wrong)
    assert right == [[]] * len(MANIFESTS)
    assert len(found) == 2


@pytest.mark.parametrize("name", ["canary", "keda"])
def test_the_services_use_the_runtime(name: str) -> None:
    predictor = MANIFESTS[name]["spec"]["predictor"]
    model = predictor["model"]
    assert model["runtime"] == RUNTIME["metadata"]["name"]
    formats = [one["name"] for one in RUNTIME["spec"]["supportedModelFormats"]]
    assert model["modelFormat"]["name"] in formats
    assert model["protocolVersion"] in RUNTIME["spec"]["protocolVersions"]
    assert predictor["terminationGracePeriodSeconds"] >= 40
    assert CONTAINER["name"] == "kserve-container"
    assert RUNTIME["spec"]["annotations"]["prometheus.kserve.io/port"] == "8080"


def test_the_container_serves_what_kserve_has_put_into_its_folder(tmp_path: Path) -> None:
    """Only /mnt/models and the port are others; the repository of the image is not there."""
    place, port = tmp_path / "mnt models", free_port()
    shutil.copytree(STARTERS / "digits" / "1", place)
    name = MANIFESTS["canary"]["metadata"]["name"]
    arguments = [
        text.replace("{{.Name}}", name)
        .replace("/mnt/models", str(place))
        .replace("8080", str(port))
        for text in CONTAINER["args"]
    ]
    assert arguments != CONTAINER["args"]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("QUARTET_")}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "service", *arguments],
            cwd=ROOT,
            env={**environment, "QUARTET_MODELS__REPOSITORY": str(tmp_path / "none")},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        _answers(f"http://127.0.0.1:{port}", name, process)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0, (tmp_path / "log").read_text()


def _answers(url: str, name: str, process: "subprocess.Popen[bytes]") -> None:
    ready = CONTAINER["startupProbe"]["httpGet"]["path"]
    patience = time.monotonic() + 120
    while True:
        assert process.poll() is None
        assert time.monotonic() < patience
        try:
            if httpx.get(f"{url}{ready}", timeout=5).is_success:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    assert httpx.get(f"{url}{CONTAINER['livenessProbe']['httpGet']['path']}").is_success
    assert httpx.get(f"{url}/v2/models/{name}/ready").is_success
    described = httpx.get(f"{url}/v2/models/{name}").json()
    assert described["name"] == name
    photo = next((ROOT / "loadtest" / "data" / "digits").iterdir()).read_bytes()
    answer = httpx.post(f"{url}/v1/classify", content=photo, headers={"Content-Type": "image/png"})
    assert answer.json()["model"] == name
    page = httpx.get(url + RUNTIME["spec"]["annotations"]["prometheus.kserve.io/path"]).text
    assert re.search(
        rf'inference_requests_total{{model="{name}",outcome="ok",version="1"}} 1.0', page
    )
