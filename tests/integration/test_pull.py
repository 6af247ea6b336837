"""Pulls in processes of their own: killed, side by side, on a full disk, at a start."""

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.fake_hub import FakeHub, FakeRepo, image_classifier
from tests.integration.real_service import RealService

pytestmark = [pytest.mark.integration, pytest.mark.looptime(False)]

ROOT = Path(__file__).parents[2]
LARGE = bytes(range(256)) * 4096 * 12
"""12 MiB: more than one write of huggingface_hub."""


@pytest.fixture(scope="module")
def server() -> Iterator[FakeHub]:
    hub = FakeHub()
    with hub.running():
        yield hub


@pytest.fixture
def hub(server: FakeHub) -> FakeHub:
    server.repos = {"org/lamps": FakeRepo()}
    server.repos["org/lamps"].commit(image_classifier())
    server.requests.clear()
    server.faults.clear()
    return server


def with_large_data() -> dict[str, bytes]:
    files = image_classifier()
    files["onnx/model.onnx_data"] += LARGE
    return files


class Puller:
    """`python -m service models pull`, in a process of its own."""

    def __init__(self, hub: FakeHub, repository: Path, *options: str) -> None:
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("QUARTET_")}
        self._environment |= {
            "HF_ENDPOINT": hub.url,
            "HF_HOME": str(repository.parent / "home"),
            "QUARTET_MODELS__REPOSITORY": str(repository),
        }
        self.command = [
            sys.executable,
            "-m",
            "service",
            "models",
            "pull",
            "hf://org/lamps",
            *options,
        ]

    def start(self) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> tuple[int, str]:
        process = self.start()
        output, _ = process.communicate(timeout=120)
        return process.returncode, output


def published(repository: Path) -> list[str]:
    folder = repository / "lamps"
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def test_a_pull_that_was_killed_is_taken_up_and_two_at_once_bring_one_version(
    hub: FakeHub, tmp_path: Path
) -> None:
    hub.repos["org/lamps"].commit(with_large_data())
    arrived, go_on = threading.Event(), threading.Event()
    half = len(LARGE) - 1024 * 1024

    class Reached:
        def wait(self, _: float) -> None:
            arrived.set()
            go_on.wait(60)

    # The first request for the data breaks off; the one that resumes it waits until the kill.
    hub.fail("/blobs/", None, ("cut", half), ("wait", Reached()))
    puller = Puller(hub, tmp_path / "repository")
    killed = puller.start()
    assert arrived.wait(60)
    killed.kill()
    killed.communicate()
    go_on.set()
    assert published(tmp_path / "repository") == []
    hub.requests.clear()
    both = [puller.start() for _ in range(2)]
    outputs = [one.communicate(timeout=120)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0], outputs
    assert published(tmp_path / "repository") == ["1"]
    assert sum("lamps/1 pulled" in output for output in outputs) == 1
    assert sum("was there already" in output for output in outputs) == 1
    gets = [
        (path, headers.get("Range"))
        for method, path, headers in hub.requests
        if method == "GET" and path.startswith("/blobs/")
    ]
    ((_, resumed),) = gets  # the graph was there, and of the data what was missing is fetched
    assert resumed == "bytes=10485760-"
    assert not any((tmp_path / "repository" / ".pulling").glob("lamps/*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small disk")
def test_a_full_disk_leaves_what_the_next_pull_repairs(hub: FakeHub, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "none", str(small)], check=False
    )
    if mounted.returncode:
        pytest.skip("nothing can be mounted here")
    try:
        puller = Puller(hub, small / "repository")
        code, output = puller.run()
        assert (code, "MiB free" in output) == (1, True), output
        assert published(small / "repository") == []
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        assert puller.run()[0] == 0
        assert published(small / "repository") == ["1"]
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_models_named_at_start_are_pulled_and_served_alone(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    snapshot = tmp_path / "hub" / "models--org--lamps" / "snapshots" / ("a" * 40)
    for name in ("config.json", "preprocessor_config.json", "onnx/model_fp16.onnx"):
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).write_bytes(image_classifier()[name])
    shutil.copytree(ROOT / "models/repository/digits", tmp_path / "repository/digits")
    named = f"lamps=hf://org/lamps,cached={snapshot.parents[1]}"
    options = ("--models.serve", named, "--models.repository", str(tmp_path / "repository"))
    for start in range(2):
        service = RealService(tmp_path, *options, "--models.warm-up-seconds", "0.05")
        try:
            service.wait_until_ready()
            with httpx.Client(base_url=service.url, timeout=60) as client:
                listed = client.get("/v1/models").json()["models"]
                found = {one["model"]: one["state"] for one in listed}
                assert found == {"lamps": "ready", "cached": "ready"}
                png = (ROOT / "service/page/samples/digit.png").read_bytes()
                for model in found:
                    answer = client.post(
                        f"/v1/classify?model={model}",
                        content=png,
                        headers={"content-type": "image/png"},
                    )
                    assert answer.status_code == 200, answer.text
        finally:
            service.end()
        if start == 0:
            hub.requests.clear()
    assert hub.requests == []  # the second start asked nothing
