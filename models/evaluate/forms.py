"""One starter in several forms of int8, as versions that are served side by side."""

import gc
import shutil
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from tqdm import tqdm

from models.evaluate.served import Served
from models.graphs.files import save_graph
from models.graphs.int8_forms import DYNAMIC, FORMS, FP32, in_form
from models.version_files import write_manifest
from service.repository.manifest import MANIFEST_NAME, read_manifest_table
from service.runtime.graphs import open_exact
from service.tasks import AnyItem

STATIC = "static QDQ"

_ITEMS = 64
_SIXTEEN = 16
_RUNS = 8
"""Of a graph in one turn."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a model, as a version in a repository of its own."""

    name: str
    repository: Path
    model: str
    graphs: Mapping[str, Path]
    """By session name."""

    @property
    def megabytes(self) -> float:
        """Return the size of its graphs."""
        return sum(path.stat().st_size for path in self.graphs.values()) / 1e6


def versions_in_forms(version: Path, to: Path) -> list[Form]:
    """Write a starter's version in each form that there is of its graphs, fp32 first."""
    table = read_manifest_table(version / MANIFEST_NAME)
    sessions: Mapping[str, str] = table["graphs"][FP32]
    models = {name: onnx.load(version / file) for name, file in sessions.items()}
    forms = []
    for number, name in enumerate(tqdm(_forms_of(models), desc="forms", unit="form")):
        folder = to / str(number) / version.parent.name / "1"
        shutil.copytree(version, folder)
        for session, file in sessions.items():
            _write(models[session], name, folder / file, version / table["graphs"]["int8"][session])
        changed = {
            **table,
            "graphs": {FP32: sessions},  # the name under which each form is loaded
            "default_precision": {},
            "tolerance": {FP32: 2.0},
            "batch_variance": "accept",
        }
        write_manifest(folder, changed)
        graphs = {session: folder / file for session, file in sessions.items()}
        forms.append(Form(name, to / str(number), version.parent.name, graphs))
    return forms


def _forms_of(models: Mapping[str, onnx.ModelProto]) -> list[str]:
    if any(_has(model, "MatMul") for model in models.values()):
        return list(FORMS)
    return [FP32, STATIC, DYNAMIC]


def _has(model: onnx.ModelProto, kind: str) -> bool:
    return any(node.op_type == kind for node in model.graph.node)


def _write(model: onnx.ModelProto, form: str, path: Path, served: Path) -> None:
    """Write a graph in a form; one of convolutions is as it is served, or dynamic."""
    if form == STATIC or (_has(model, "Conv") and form not in (FP32, DYNAMIC)):
        shutil.copyfile(served, path)
    elif _has(model, "MatMul") or _has(model, "Conv"):
        save_graph(in_form(model, form), path)


async def item_times(served: Sequence[Served], rounds: int) -> tuple[list[float], list[float]]:
    """Return the milliseconds of CPU an item of each takes, alone and 64 in flight: medians."""
    goldens = [golden.item for golden in served[0].loaded.files.goldens]
    items = (goldens * (_ITEMS // len(goldens) + 1))[:_ITEMS]
    alone: list[list[float]] = [[] for _ in served]
    together: list[list[float]] = [[] for _ in served]
    for turn in tqdm(range(rounds + 1), desc="items", unit="round"):
        for one, times, crowd in zip(served, alone, together, strict=True):
            first = await _cpu(one, goldens, alone=True)
            second = await _cpu(one, items, alone=False)
            if turn:  # the first also warms up
                times.append(first)
                crowd.append(second)
    return [statistics.median(own) for own in alone], [statistics.median(own) for own in together]


async def _cpu(served: Served, items: Sequence[AnyItem], *, alone: bool) -> float:
    gc.collect()
    started = time.process_time()
    if alone:
        await served.seconds_alone(items)
    else:
        await served.answers(items, "round")
    return 1e3 * (time.process_time() - started) / len(items)


def graph_times(forms: Sequence[Form], rounds: int) -> Mapping[str, list[float]]:
    """Return the milliseconds of CPU of each graph that can be fed by its signature alone."""
    found = {}
    for name in forms[0].graphs:
        for rows in (1, _SIXTEEN):
            sessions = [_session(form.graphs[name]) for form in forms]
            feeds = _feeds(sessions[0], rows)
            if feeds is None:
                continue
            times: list[list[float]] = [[] for _ in forms]
            for turn in range(rounds + 1):
                for session, own in zip(sessions, times, strict=True):
                    started = time.process_time()
                    for _ in range(_RUNS):
                        session.run(None, dict(feeds))
                    if turn:
                        own.append(1e3 * (time.process_time() - started) / _RUNS)
            title = f"ms of CPU, {name} graph, batch of {rows}"
            found[title] = [statistics.median(own) for own in times]
    return found


def _session(path: Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return open_exact(str(path), options, ["CPUExecutionProvider"])


def _feeds(session: ort.InferenceSession, rows: int) -> Mapping[str, NDArray[Any]] | None:
    """Return texts of 16 tokens or noise; None for a graph that takes anything else."""
    random = np.random.default_rng(0)
    feeds: dict[str, NDArray[Any]] = {}
    sizes = {"batch": rows, "sequence": _SIXTEEN, "source": _SIXTEEN}
    for one in session.get_inputs():
        shape = [sizes.get(axis, axis) for axis in one.shape]
        if any(isinstance(axis, str) or axis is None for axis in shape):
            return None
        if one.type == "tensor(float)":
            feeds[one.name] = random.standard_normal(shape, np.float32)
        elif one.name == "attention_mask":
            feeds[one.name] = np.ones(shape, np.int64)
        elif one.name == "input_ids":
            feeds[one.name] = random.integers(5, 1000, shape)
        else:
            return None
    return feeds
