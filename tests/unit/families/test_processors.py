"""Processors work in a process without onnxruntime, and models in another one."""

import pickle
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from service.cache.codec import CODECS
from service.families import FAMILIES
from service.repository.goldens import read_goldens
from service.repository.manifest import read_manifest, read_parameters
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.types import Sessions
from tests.unit.families.cases import case_of, open_case

ROOT = Path(__file__).parents[3]
STARTERS = sorted(path.parent for path in ROOT.glob("models/repository/*/*/model.toml"))


@pytest.fixture(scope="module")
def process() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "tests.unit.families.processor_process"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, cwd=ROOT, **pipes) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()
        assert started.wait(30) == 0


def asked(process: subprocess.Popen[bytes], request: Any) -> Any:
    assert process.stdin is not None
    assert process.stdout is not None
    pickle.dump(request, process.stdin)
    process.stdin.flush()
    return pickle.load(process.stdout)


def compare(
    process: subprocess.Popen[bytes],
    name: str,
    folder: Path,
    parameters: Mapping[str, Any],
    sessions: Sessions,
    items: Sequence[Any],
) -> None:
    entry = FAMILIES[name]
    opened = entry.open(folder, read_parameters(parameters, entry.parameters))
    prepared = asked(process, (name, str(folder), dict(parameters), items))
    results = [opened.model.infer(sessions, [one])[0] for one in prepared]
    answers, runtimes = asked(process, results)
    assert runtimes == []
    encode = CODECS[entry.task].encode
    for item, answer in zip(items, answers, strict=True):
        here = opened.model.infer(sessions, [opened.processor.preprocess(item)])[0]
        assert encode(answer) == encode(opened.processor.postprocess(here, item))


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_answers_without_onnxruntime_in_its_processor(
    name: str, process: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    case = case_of(name)
    open_case(name, tmp_path)  # which writes the tokenizers
    items = [case.items[0], case.items[-1]]
    compare(process, name, tmp_path, case.parameters, case.sessions(), items)


@pytest.mark.parametrize("folder", STARTERS, ids=lambda folder: folder.parent.name)
def test_every_starter_answers_without_onnxruntime_in_its_processor(
    folder: Path, process: subprocess.Popen[bytes]
) -> None:
    manifest = read_manifest(folder / "model.toml")
    graphs = next(iter(manifest.graphs.values()))
    sessions = {name: OrtSession(folder / file, Device("cpu"), 1) for name, file in graphs.items()}
    goldens = read_goldens(folder, manifest.task)
    items = [goldens[0].item, goldens[-1].item]
    compare(process, manifest.family, folder, manifest.parameters, sessions, items)


def test_there_are_starters() -> None:
    assert len(STARTERS) == 5
