"""Smaller and fused graphs, kept only where the answers stay and the time goes down."""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import onnx
import onnxslim
from onnxruntime.transformers import optimizer

from models.convert.checkpoint import Checkpoint
from models.convert.graphs import write_graph
from models.convert.parity import (
    Outputs,
    graph_outputs,
    largest_deviation,
    scale_of,
    session_of,
)
from models.convert.samples import Feeds
from models.graphs.quiet import quiet

TOLERANCE = 1e-4
"""Of the largest value that PyTorch gave."""

_FUSED_DOMAIN = "com.microsoft"
_ROUNDS = 15
_LARGEST = 1_000_000_000
"""Bytes of a graph above which the libraries, which copy it several times, are not tried."""

_FUSED_AS: Final[Mapping[str, str]] = {
    "albert": "bert", "bert": "bert", "camembert": "bert", "clip": "clip", "deberta-v2": "bert",
    "distilbert": "bert", "electra": "bert", "marian": "bart", "mbart": "bart", "m2m_100": "bart",
    "roberta": "bert", "t5": "t5", "vit": "vit", "deit": "vit", "xlm-roberta": "bert",
}  # fmt: skip
"""The model types of transformers, and the patterns of onnxruntime.transformers that fit them."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One optimisation of one graph, and what became of it."""

    name: str
    role: str
    deviation: float
    """Largest |Δ| against PyTorch; infinite where the graph did not run."""
    speed: float
    """Times as fast as the graph before; 0 where it was not timed."""
    kept: bool


@dataclass(frozen=True, slots=True)
class Subject:
    """A directory's graphs, and what they have to answer."""

    checkpoint: Checkpoint
    graphs: Mapping[str, Path]
    feeds: Feeds
    """Of the first graph."""
    by_role: Mapping[str, Feeds]
    wanted: Outputs


def slimmed(path: Path, _: Checkpoint) -> onnx.ModelProto:
    """Return the graph with constants folded and unused nodes removed (onnxslim)."""
    return onnxslim.slim(onnx.load(str(path)))


def fused(path: Path, checkpoint: Checkpoint) -> onnx.ModelProto:
    """Return the graph with attention, normalisation and activations as single nodes."""
    config = checkpoint.model.config
    made = optimizer.optimize_model(
        str(path),
        model_type=_FUSED_AS[config.model_type],
        num_heads=getattr(config, "num_attention_heads", 0),
        hidden_size=getattr(config, "hidden_size", 0),
        opt_level=0,
    ).model
    if not any(known.domain == _FUSED_DOMAIN for known in made.opset_import):
        made.opset_import.append(onnx.helper.make_opsetid(_FUSED_DOMAIN, 1))
    return made


def can_fuse(model_type: str) -> bool:
    """Tell whether onnxruntime.transformers has patterns for models of this type."""
    return model_type in _FUSED_AS


def try_on(
    subject: Subject, role: str, name: str, change: Callable[[Path, Checkpoint], onnx.ModelProto]
) -> Trial:
    """Put the changed graph in the place of the old one, if it is as exact and no slower."""
    path = subject.graphs[role]
    trial_path = path.with_name(f".trial-{path.name}")
    lost = Trial(name, role, float("inf"), 0.0, kept=False)
    if path.stat().st_size > _LARGEST or path.with_name(f"{path.name}_data").exists():
        return lost
    try:
        with quiet():
            write_graph(change(path, subject.checkpoint), trial_path)
        graphs = {**subject.graphs, role: trial_path}
        given = graph_outputs(subject.checkpoint, graphs, subject.feeds)
        deviation = largest_deviation(subject.wanted, given)
        if deviation > TOLERANCE * max(1.0, scale_of(subject.wanted)):
            return Trial(name, role, deviation, 0.0, kept=False)
        before, after = seconds_of([path, trial_path], subject.by_role[role])
        kept = after <= before
        if kept:
            trial_path.replace(path)
        return Trial(name, role, deviation, before / after, kept)
    except Exception:  # whatever a library trips over: the graph as it was is right
        return lost
    finally:
        trial_path.unlink(missing_ok=True)


def seconds_of(paths: Sequence[Path], feeds: Feeds) -> list[float]:
    """Return the median seconds of processor time of one run of each graph, taken in turns.

    On one thread, which is the caller's: what else the machine does disturbs it least.
    """
    sessions = [session_of(path, threads=1) for path in paths]
    times: list[list[float]] = [[] for _ in paths]
    for at in range(_ROUNDS + 1):
        for session, taken in zip(sessions, times, strict=True):
            started = time.thread_time()
            session.run(None, dict(feeds))
            if at:  # the first run also allocates
                taken.append(time.thread_time() - started)
    return [statistics.median(taken) for taken in times]
