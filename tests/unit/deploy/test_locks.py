"""The images install what pyproject.toml asks for: locked, hashed, and nothing of the training."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {"cpu": ("cpu", "otel"), "gpu": ("gpu", "cuda", "otel"), "tools": ("cpu", "train")}
"""What each image is made of, as the Makefile's rule `lock` has it."""

IMAGE = {**default_environment(), "python_version": "3.11", "python_full_version": "3.11.2"}
IMAGE |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
PIN = re.compile(r"^([\w.-]+)==(\S+) \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M)


def text_of(lock: str) -> str:
    return (ROOT / "deploy" / "locks" / f"{lock}.txt").read_text(encoding="utf-8")


def pins(lock: str) -> Mapping[str, Version]:
    return {
        canonicalize_name(name): Version(version) for name, version, _ in PIN.findall(text_of(lock))
    }


def requirements(lock: str) -> Iterator[Requirement]:
    """Yield what an image must hold of what pyproject.toml names."""
    lines = [*PROJECT["dependencies"]]
    for extra in EXTRAS[lock]:
        lines += PROJECT["optional-dependencies"][extra]
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(IMAGE):  # type: ignore[arg-type]
            yield requirement


@pytest.mark.parametrize("lock", EXTRAS)
def test_a_lock_holds_what_the_project_asks_for(lock: str) -> None:
    locked = pins(lock)
    unmet = [
        str(requirement)
        for requirement in requirements(lock)
        if locked.get(canonicalize_name(requirement.name), Version("0"))
        not in requirement.specifier
    ]
    assert unmet == [], "run `make lock`"


@pytest.mark.parametrize("lock", EXTRAS)
def test_every_line_of_a_lock_is_an_exact_version_with_hashes(lock: str) -> None:
    rest = PIN.sub("", text_of(lock))
    assert [line for line in rest.splitlines() if line and not line.lstrip().startswith("#")] == []
    assert len(pins(lock)) == len(PIN.findall(text_of(lock))) > 30


def test_both_serving_images_have_the_same_version_of_what_they_share() -> None:
    cpu, gpu = pins("cpu"), pins("gpu")
    shared = cpu.keys() & gpu.keys()
    assert len(shared) > 30
    assert {name: cpu[name] for name in shared} == {name: gpu[name] for name in shared}


def test_exports_are_checked_by_the_onnxruntime_that_serves_them() -> None:
    assert pins("tools")["onnxruntime"] == pins("cpu")["onnxruntime"]


@pytest.mark.parametrize("lock", ["cpu", "gpu"])
def test_nothing_of_the_training_is_in_a_serving_image(lock: str) -> None:
    own = {canonicalize_name(Requirement(line).name) for line in PROJECT["dependencies"]}
    training = {
        canonicalize_name(Requirement(line).name)
        for line in PROJECT["optional-dependencies"]["train"]
    }
    assert {"torch", "transformers", "onnx"} <= training
    assert not (training - own - {"onnxruntime", "huggingface-hub", "tqdm"}) & set(pins(lock))


def test_the_tools_have_torch_without_cuda() -> None:
    locked = pins("tools")
    assert locked["torch"].local == "cpu"
    assert [name for name in locked if name.startswith(("nvidia-", "cuda-", "triton"))] == []


def test_every_lock_is_installed_by_its_image_and_only_with_hashes() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    installs = re.findall(r"^RUN .*pip .*install(?:.*\\\n)+.*", dockerfile, re.M)
    assert {re.search(r"--requirement (\w+)\.txt", each)[1] for each in installs} == set(EXTRAS)  # type: ignore[index]
    assert all("--require-hashes" in each and "--no-deps" in each for each in installs)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for lock, extras in EXTRAS.items():
        options = " ".join(f"--extra {extra}" for extra in extras)
        assert re.search(
            rf"\$\(LOCK\) {options} .*--output-file deploy/locks/{lock}\.txt", makefile
        )
