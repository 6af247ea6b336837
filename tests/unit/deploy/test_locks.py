"""What images and developers install is what pyproject.toml asks for: locked and hashed."""

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
_FILE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, GROUPS = _FILE["project"], _FILE["dependency-groups"]
EXTRAS = {
    "cpu": ("cpu", "grpc", "hub", "otel", "video"),
    "gpu": ("gpu", "cuda", "grpc", "hub", "otel", "video"),
    "tools": ("cpu", "train"),
}
"""What each image is made of, as the Makefile's rule `lock` has it."""

DEVELOPERS = ("dev", "exports", "demo")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
NOT_LOCKED = {"torch", "quartet"}
"""Builds of torch differ by machine; the project is installed from where it lies."""

IMAGE = {**default_environment(), "python_version": "3.11", "python_full_version": "3.11.2"}
IMAGE |= {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": "x86_64"}
PIN = re.compile(
    r"^([\w.-]+)==(\S+)(?: ; [^\n]+?)? \\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.M
)


def text_of(lock: str) -> str:
    return (ROOT / "deploy" / "locks" / f"{lock}.txt").read_text(encoding="utf-8")


def pins(lock: str) -> Mapping[str, Version]:
    return {
        canonicalize_name(name): Version(version) for name, version, _ in PIN.findall(text_of(lock))
    }


def developers_extras(lock: str) -> list[str]:
    """Return the extras that the Makefile names for an environment of developers."""
    if lock == "demo":
        return ["cpu", "demo"]
    variables = dict(re.findall(r"^(DEV|EXPORTS) := (\S+)$", MAKEFILE, re.M))
    names = variables[lock.upper()].replace("$(DEV)", variables["DEV"])
    return ["cpu", *names.split(",")]


def requirements(lock: str) -> Iterator[Requirement]:
    """Yield what an image must hold of what pyproject.toml names."""
    lines = [*PROJECT["dependencies"]]
    for extra in EXTRAS.get(lock) or developers_extras(lock):
        lines += PROJECT["optional-dependencies"][extra]
    for line in lines:
        requirement = Requirement(line)
        if requirement.marker is None or requirement.marker.evaluate(IMAGE):  # type: ignore[arg-type]
            yield requirement


@pytest.mark.parametrize("lock", [*EXTRAS, *DEVELOPERS])
def test_a_lock_holds_what_the_project_asks_for(lock: str) -> None:
    locked = pins(lock)
    unmet = [
        str(requirement)
        for requirement in requirements(lock)
        if lock in EXTRAS or requirement.name not in NOT_LOCKED
        if locked.get(canonicalize_name(requirement.name), Version("0"))
        not in requirement.specifier
    ]
    assert unmet == [], "run `make lock`"


@pytest.mark.parametrize("lock", [*EXTRAS, *DEVELOPERS, "clients"])
def test_every_line_of_a_lock_is_an_exact_version_with_hashes(lock: str) -> None:
    rest = PIN.sub("", text_of(lock))
    assert [line for line in rest.splitlines() if line and not line.lstrip().startswith("#")] == []
    locked = PIN.findall(text_of(lock))
    several = len(locked) - len(pins(lock))  # the same package for different versions of Python
    assert several <= (0 if lock in EXTRAS else 10)
    assert len(locked) > 30


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
    for lock, extras in EXTRAS.items():
        options = " ".join(f"--extra {extra}" for extra in extras)
        assert re.search(
            rf"\$\(LOCK\) {options} .*--output-file deploy/locks/{lock}\.txt", MAKEFILE
        )


@pytest.mark.parametrize("group", ["charts", "clients"])
def test_the_lock_of_a_group_holds_what_it_asks_for(group: str) -> None:
    locked = pins(group)
    asked = [Requirement(line) for line in GROUPS[group]]
    assert [one for one in asked if locked[canonicalize_name(one.name)] not in one.specifier] == []


def test_the_lanes_of_tests_have_the_same_versions() -> None:
    dev, exports = pins("dev"), pins("exports")
    assert {name: exports.get(name) for name in dev} == dev


@pytest.mark.parametrize("lock", DEVELOPERS)
def test_the_environments_of_developers_have_no_torch_and_no_cuda(lock: str) -> None:
    forbidden = ("torch", "nvidia-", "cuda-", "triton")
    assert [name for name in pins(lock) if name.startswith(forbidden)] == []


@pytest.mark.parametrize("lock", [*EXTRAS, *DEVELOPERS, "charts", "clients", "ray"])
def test_no_lock_names_an_index_or_a_folder(lock: str) -> None:
    assert re.findall(r"://|--(?:index|extra-index|find-links)|file:|\B/\w+/", text_of(lock)) == []
