"""The whole way: graphs, optimisation, precisions, evidence. Each step is a module of its own."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx
from tqdm import tqdm

from models.convert.checkpoint import Checkpoint
from models.convert.choice import Form, has_convolutions
from models.convert.errors import CheckpointError
from models.convert.graphs import export_graphs, graphs_of, write_graph
from models.convert.optimise import TOLERANCE, Subject, Trial, can_fuse, fused, slimmed, try_on
from models.convert.parity import (
    decoder_feeds,
    graph_outputs,
    largest_deviation,
    original_outputs,
    sample_feeds,
    scale_of,
)
from models.convert.precisions import RECIPES, Calibration, check_wanted, make_precision
from models.convert.report import Evidence, weigh
from models.convert.samples import Contents, Feeds
from models.convert.sensitivity import Kept, quantised_but, sensitive_nodes
from models.convert.served import add_int8

_CALIBRATION_BATCH = 8


@dataclass(frozen=True, slots=True)
class Conversion:
    """What was made, and what it is worth."""

    trials: Sequence[Trial]
    evidence: Sequence[Evidence]
    """fp32 first."""
    forms: Sequence[Form] = ()
    """Of int8 that were tried on a graph of convolutions."""


def convert(
    checkpoint: Checkpoint,
    to: Path,
    wanted: Sequence[str] = (),
    calibration: Contents | None = None,
    max_loss: float | None = None,
) -> Conversion:
    """Write a directory that is served with no code, in fp32 and the precisions wanted.

    Args:
        checkpoint: what to export.
        to: the directory; files of the same names are replaced.
        wanted: names of `RECIPES`, and "fp32", which is always made.
        calibration: for those that need it.
        max_loss: per cent that `int8`, `int8-weights` and `int4` may lose; None sets no bound,
            but that of `MAX_LOSS` on what `int8` makes of convolutions.

    Raises:
        CheckpointError: something asked for cannot be made, or the fp32 graphs answer
            differently from PyTorch.
    """
    check_wanted(wanted, calibration is not None)
    if strange := [name for name in wanted if name not in RECIPES and name != "fp32"]:
        raise CheckpointError(f"{', '.join(strange)} is made with --in-flight only")
    names = [name for name in dict.fromkeys(wanted) if name in RECIPES]
    with tqdm(total=3 + len(names), desc="export", unit="step") as bar:
        subject = exported(checkpoint, to)
        bar.update()
        trials = [try_on(subject, role, "onnxslim", slimmed) for role in subject.graphs]
        bar.update()
        found, forms = [], tuple[Form, ...]()
        for name in names:  # of graphs not yet fused: within a fused node nothing is quantised
            bar.set_description(name)
            if name == "int8" and calibration is not None and _is_of_convolutions(subject):
                forms = tuple(add_int8(to, calibration.images, max_loss).forms)
                if graphs := graphs_of(to, "int8"):
                    found.append(weigh(subject, name, graphs))
            else:
                found.append(write_precision(subject, name, calibration, max_loss))
            bar.update()
        bar.set_description("fusion")
        if can_fuse(checkpoint.model.config.model_type):
            trials += [try_on(subject, role, "fusion", fused) for role in subject.graphs]
        bar.update()
    return Conversion(trials, [weigh(subject, "fp32", subject.graphs), *found], forms)


def _is_of_convolutions(subject: Subject) -> bool:
    graphs = subject.graphs
    return set(graphs) == {"model"} and has_convolutions(onnx.load(str(graphs["model"])))


def exported(checkpoint: Checkpoint, to: Path) -> Subject:
    """Export in fp32 and compare with PyTorch.

    Raises:
        CheckpointError: it cannot be exported, or answers differently.
    """
    graphs = export_graphs(checkpoint, to)
    feeds = sample_feeds(checkpoint, graphs)
    outputs = original_outputs(checkpoint, feeds)
    deviation = largest_deviation(outputs, graph_outputs(checkpoint, graphs, feeds))
    if deviation > TOLERANCE * max(1.0, scale_of(outputs)):
        raise CheckpointError(f"the exported graphs are off by {deviation:.2g} from PyTorch")
    by_role = (
        decoder_feeds(checkpoint, graphs, feeds) if checkpoint.is_translator else {"model": feeds}
    )
    return Subject(checkpoint, graphs, feeds, by_role, outputs)


def write_precision(
    subject: Subject, name: str, calibration: Contents | None, max_loss: float | None = None
) -> Evidence:
    """Write every graph in one precision, next to the fp32 files, and measure it.

    Raises:
        CheckpointError: it cannot be made of one of the graphs, or not within the loss.
    """
    recipe = RECIPES[name]
    batches: Mapping[str, Calibration] = {}
    if recipe.is_calibrated and calibration is not None:
        batches = calibration_of(subject, calibration)
    kept: Kept | None = None
    if recipe.products is not None and max_loss is not None:
        kept = sensitive_nodes(subject, recipe.products, max_loss)
    made: dict[str, Path] = {}
    for role, path in subject.graphs.items():
        model = onnx.load(str(path))
        if recipe.products is not None and kept is not None:
            model = quantised_but(model, recipe.products, kept[role])
        else:
            model = make_precision(name, model, batches.get(role, ()))
        made[role] = path.with_name(f"{path.stem}{recipe.suffix}.onnx")
        write_graph(model, made[role])
    return weigh(subject, name, made)


def calibration_of(subject: Subject, contents: Contents) -> Mapping[str, Calibration]:
    """Return what each graph is fed for the contents, in batches.

    Raises:
        CheckpointError: the contents are not what the model reads.
    """
    by_role: dict[str, list[Feeds]] = {role: [] for role in subject.graphs}
    for part in _parts(contents):
        feeds = sample_feeds(subject.checkpoint, subject.graphs, part)
        given: Mapping[str, Feeds] = {"model": feeds}
        if subject.checkpoint.is_translator:
            given = decoder_feeds(subject.checkpoint, subject.graphs, feeds)
        for role in subject.graphs:
            by_role[role].append(given[role])
    return by_role


def _parts(contents: Contents) -> Iterator[Contents]:
    longest = max(len(contents.texts), len(contents.images))
    for start in range(0, longest, _CALIBRATION_BATCH):
        chosen = slice(start, start + _CALIBRATION_BATCH)
        yield Contents(contents.texts[chosen], contents.images[chosen])
