"""From a translator's checkpoint to step graphs, whose sentences are batched in flight."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from models.convert.checkpoint import Checkpoint
from models.convert.convert import Conversion
from models.convert.errors import CheckpointError
from models.convert.graphs import copy_beside, size_of, write_graph
from models.convert.optimise import TOLERANCE
from models.convert.parity import decoder_ids
from models.convert.report import Evidence
from models.convert.samples import SAMPLES, Feeds, feeds_of
from models.graphs.in_flight import step_graphs
from models.graphs.pretrained_weights import MODEL_TYPES, weights_of
from models.graphs.quantise import quantise_weights
from models.graphs.quiet import quiet
from models.graphs.translator_weights import Output, TranslatorWeights
from models.graphs.writer import Arithmetic
from service.errors import ServiceError
from service.families.translation.in_flight import search_rules
from service.families.translation.kv_cache import KVCache
from service.families.translation.search.rules import TokenRules
from service.repository.layouts.exports import read_export
from service.repository.layouts.facts import Fact
from service.repository.layouts.generation import generation_facts
from service.repository.manifest import Precision, read_parameters
from service.runtime.providers import Device
from service.runtime.session import OrtSession

_CANDIDATES = 8
"""Best next tokens of which the log-probabilities are compared."""

_ROUNDS = 9
_MOST_BYTES = 2_000_000_000
"""Of weights in a graph, which protobuf must hold; NLLB with 600 M has 1.9."""

_PRODUCTS = ("encoder", "step")
"""The graphs that hold weights."""


@dataclass(frozen=True, slots=True)
class StepRecipe:
    """How step graphs of a precision are made, and what they are served as."""

    precision: Precision
    suffix: str
    arithmetic: Arithmetic
    bits: int | None = None
    """Of the weights of products, where only those are whole numbers."""


STEP_RECIPES: Final[Mapping[str, StepRecipe]] = {
    "fp32": StepRecipe("fp32", "", "fp32"),
    "fp16": StepRecipe("fp16", "_fp16", "fp16"),
    "int8": StepRecipe("int8", "_int8", "int8"),
    "int8-weights": StepRecipe("int8", "_int8", "weights", 8),
    "int4": StepRecipe("q4", "_q4", "weights", 4),
}
"""By the name on the command line. In all of them activations are rounded row by row, if at all:
an answer does not depend on its neighbours."""


def convert_in_flight(checkpoint: Checkpoint, to: Path, wanted: Sequence[str] = ()) -> Conversion:
    """Write a directory that is served in flight with no code, in fp32 and the precisions wanted.

    Args:
        checkpoint: a Marian, mBART, M2M-100, NLLB or T5 model.
        to: the directory; files of the same names are replaced.
        wanted: names of `STEP_RECIPES`; fp32 is always made.

    Raises:
        CheckpointError: the model is no such translator, is to be searched in a way that is not
            there in flight, or its graphs answer differently from PyTorch.
    """
    kind = checkpoint.model.config.model_type
    if kind not in MODEL_TYPES:
        raise CheckpointError(f"{kind} has no step graphs; {', '.join(MODEL_TYPES)} have them")
    _refuse_large(checkpoint)
    names = [*dict.fromkeys(["fp32", *wanted])]
    _check_wanted(names)
    to.mkdir(parents=True, exist_ok=True)
    copy_beside(checkpoint, to, replacing=True)
    weights = _weights(checkpoint, token_rules(to))
    wishes = _Wishes.of(checkpoint, weights.output)
    found = []
    for name in tqdm(names, desc="step graphs", unit="precision"):
        graphs = write_precision(weights, STEP_RECIPES[name], to)
        found.append(_weighed(name, graphs, wishes))
        exact = TOLERANCE * max(1.0, wishes.scale) if name == "fp32" else np.inf
        if not found[-1].deviation < exact:
            raise CheckpointError(
                f"the {name} step graphs are off by {found[-1].deviation:.2g} from PyTorch"
            )
    return Conversion((), found)


def token_rules(folder: Path) -> TokenRules:
    """Return how a directory's files want their model to write, which is possible in flight.

    Raises:
        CheckpointError: it is not, or the files do not tell.
    """
    findings = generation_facts(read_export(folder), {})
    table: dict[str, Any] = {}
    try:
        for finding in findings:
            section, _, key = finding.key.rpartition(".")
            if section != "parameters.rules":
                continue
            if not isinstance(finding, Fact):
                raise CheckpointError(finding.reason)
            table[key] = finding.value
        rules = read_parameters(table, TokenRules)
        search_rules(rules)
    except (ServiceError, ValueError) as error:
        raise CheckpointError(f"it cannot be served in flight: {error}") from error
    return rules


def write_precision(weights: TranslatorWeights, recipe: StepRecipe, to: Path) -> Mapping[str, Path]:
    """Write the graphs of one precision into a directory; return them by session."""
    written = {}
    for session, graph in step_graphs(weights, recipe.arithmetic).items():
        made = graph
        if recipe.bits is not None and session in _PRODUCTS:
            with quiet():
                made = quantise_weights(graph, bits=recipe.bits)
        written[session] = to / f"{session}{recipe.suffix}.onnx"
        write_graph(made, written[session])
    return written


def _refuse_large(checkpoint: Checkpoint) -> None:
    """Refuse a half of the model that no ONNX file holds: its weights stand in the graph itself."""
    for part in ("encoder", "decoder"):
        weights = getattr(checkpoint.model, f"get_{part}")().parameters()
        size = 4 * sum(weight.numel() for weight in weights)
        if size > _MOST_BYTES:
            raise CheckpointError(
                f"its {part} has {size / 1e9:.1f} GB of weights in fp32, and a step graph holds "
                f"{_MOST_BYTES / 1e9:g} at the most: export it without --in-flight"
            )


def _check_wanted(names: Sequence[str]) -> None:
    served: dict[Precision, str] = {}
    for name in names:
        if name not in STEP_RECIPES:
            raise CheckpointError(
                f"{name} is not made of step graphs: choose from {', '.join(STEP_RECIPES)}"
            )
        precision = STEP_RECIPES[name].precision
        if (other := served.setdefault(precision, name)) != name:
            raise CheckpointError(
                f"{other} and {name} are both served as {precision}: choose one of them"
            )


def _weights(checkpoint: Checkpoint, rules: TokenRules) -> TranslatorWeights:
    forbidden = sorted({*rules.bans.always, *rules.suppressed})
    try:
        return weights_of(checkpoint.model, forbidden, rules.renormalize)
    except ValueError as error:
        raise CheckpointError(f"it has no step graphs: {error}") from error


@dataclass(frozen=True, slots=True, eq=False)
class _Wishes:
    """What graphs are fed, and what PyTorch makes of it."""

    feeds: Feeds
    ids: NDArray[np.int64]
    """Tokens of the translation so far [B, steps]."""
    logprobs: NDArray[np.float32]
    """Of every next token [B, steps, V]; minus infinity where one is never chosen."""

    @classmethod
    def of(cls, checkpoint: Checkpoint, output: Output) -> "_Wishes":
        feeds = feeds_of(checkpoint, ("input_ids", "attention_mask"), SAMPLES)
        ids = decoder_ids(checkpoint, len(feeds["input_ids"]))
        inputs = {name: torch.from_numpy(value) for name, value in feeds.items()}
        with torch.inference_mode():
            given = checkpoint.model(**inputs, decoder_input_ids=torch.from_numpy(ids))
            logprobs = given.logits.log_softmax(-1)
            logprobs[:, :, list(output.forbidden)] = -np.inf
            if output.renormalizes:
                logprobs = logprobs.log_softmax(-1)
        return cls(feeds, ids, logprobs.numpy())

    @property
    def scale(self) -> float:
        """Return how large the log-probabilities of the best tokens get."""
        best = np.sort(self.logprobs, axis=-1)[..., -_CANDIDATES:]
        return float(np.abs(best).max())


def _weighed(name: str, graphs: Mapping[str, Path], wishes: _Wishes) -> Evidence:
    sessions = {of: OrtSession(path, Device("cpu"), 1) for of, path in graphs.items()}
    ids, logprobs = _taught(sessions, wishes)
    gaps = np.abs(np.take_along_axis(wishes.logprobs, ids, axis=-1) - logprobs)
    deviation = float(gaps.max()) if np.isfinite(gaps).all() else np.inf
    return Evidence(
        name,
        deviation,
        deviation / wishes.scale,
        float((wishes.logprobs.argmax(-1) == ids[:, :, 0]).mean()),
        _seconds(sessions, wishes) * 1e3,
        sum(map(size_of, graphs.values())) / 1e6,
    )


def _taught(
    sessions: Mapping[str, OrtSession], wishes: _Wishes
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the best next tokens and their log-probabilities [B, steps, candidates]."""
    caches, count = _read(sessions, wishes), len(wishes.ids)
    ids, logprobs = [], []
    for step in range(wishes.ids.shape[1]):
        caches.tokens[:count] = wishes.ids[:, step]
        caches.positions[:count] = step
        chosen = caches.step(sessions, count, _CANDIDATES)
        ids.append(chosen.ids.copy())
        logprobs.append(chosen.logprobs.copy())
    return np.stack(ids, axis=1), np.stack(logprobs, axis=1)


def _read(sessions: Mapping[str, OrtSession], wishes: _Wishes) -> KVCache:
    """Return caches in which the samples were read, and nothing was written."""
    caches, mask = KVCache(), wishes.feeds["attention_mask"]
    count, steps = wishes.ids.shape
    caches.reserve(sessions, count, steps, mask.shape[1])
    _, cross = sessions["encoder"].run_kept(wishes.feeds, host=())
    caches.join(sessions, cross, np.arange(count))
    caches.source_lengths[:count] = mask.sum(axis=1)
    return caches


def _seconds(sessions: Mapping[str, OrtSession], wishes: _Wishes) -> float:
    """Return the median seconds in which the samples are read and one token of each is written."""
    taken, count = [], len(wishes.ids)
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        _read(sessions, wishes).step(sessions, count, 1)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)
