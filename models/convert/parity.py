"""What graphs give against what PyTorch gives for the same inputs."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray

from models.convert.checkpoint import Checkpoint
from models.convert.samples import SAMPLES, Contents, Feeds, feeds_of
from service.repository.onnx_file.reader import read_signature
from service.runtime.graphs import open_exact

Outputs = Mapping[str, NDArray[Any]]

_STEPS = 6
"""Tokens the decoder is given; the last one through the graph that goes on from a cache."""


def session_of(path: Path, threads: int = 0) -> ort.InferenceSession:
    """Open a graph on the CPU with this many threads; 0 means one per core."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return open_exact(str(path), options, ["CPUExecutionProvider"])


def sample_feeds(
    checkpoint: Checkpoint, graphs: Mapping[str, Path], contents: Contents = SAMPLES
) -> Feeds:
    """Return one batch for the graph that comes first: the only one, or the encoder.

    Raises:
        CheckpointError: as `feeds_of` does.
    """
    first = graphs["encoder_model" if "encoder_model" in graphs else "model"]
    return feeds_of(checkpoint, list(read_signature(first).inputs), contents)


def original_outputs(checkpoint: Checkpoint, feeds: Feeds) -> Outputs:
    """Return what PyTorch gives, by the names that the graphs have for it; no loss, no caches."""
    inputs = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in feeds.items()}
    with torch.inference_mode():
        if checkpoint.is_translator:
            batch = len(feeds["input_ids"])
            ids = torch.from_numpy(decoder_ids(checkpoint, batch))
            return {"logits": checkpoint.model(**inputs, decoder_input_ids=ids).logits.numpy()}
        outputs = checkpoint.model(**inputs)
    return {name: value.numpy() for name, value in outputs.items() if torch.is_tensor(value)}


def graph_outputs(checkpoint: Checkpoint, graphs: Mapping[str, Path], feeds: Feeds) -> Outputs:
    """Return what the graphs give on the CPU; of a translator all steps' logits, as PyTorch."""
    if not checkpoint.is_translator:
        session = session_of(graphs["model"])
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, dict(feeds)), strict=True))
    *_, given = zip(*_steps(checkpoint, graphs, feeds), strict=True)
    return {"logits": np.concatenate(given, axis=1)}


def decoder_feeds(
    checkpoint: Checkpoint, graphs: Mapping[str, Path], feeds: Feeds
) -> Mapping[str, Feeds]:
    """Return what each of a translator's graphs is fed when it reads a batch."""
    return {role: given for role, given, _ in _steps(checkpoint, graphs, feeds)} | {
        "encoder_model": feeds
    }


def largest_deviation(wanted: Outputs, given: Outputs) -> float:
    """Return the largest |Δ| over the outputs that both have; infinite where one is not finite.

    Raises:
        ValueError: they have no output in common.
    """
    common = wanted.keys() & given.keys()
    if not common:
        raise ValueError(f"{sorted(given)} has no output of {sorted(wanted)}")
    gaps = [
        float(np.max(np.abs(wanted[name] - given[name].astype(np.float32)), initial=0))
        for name in common
    ]
    return max((gap if np.isfinite(gap) else np.inf for gap in gaps), default=0.0)


def scale_of(wanted: Outputs) -> float:
    """Return the largest absolute value of what PyTorch gave, to judge a deviation by."""
    return max(float(np.max(np.abs(value), initial=0)) for value in wanted.values())


def decoder_ids(checkpoint: Checkpoint, batch: int) -> NDArray[np.int64]:
    """Return what a translator's decoder is given: the start token, then any, the same always."""
    config = checkpoint.model.config
    vocabulary = getattr(config, "decoder_vocab_size", None) or config.vocab_size
    ids = np.random.default_rng(3).integers(4, vocabulary, (batch, _STEPS))
    ids[:, 0] = config.decoder_start_token_id
    return ids.astype(np.int64)


def _steps(
    checkpoint: Checkpoint, graphs: Mapping[str, Path], feeds: Feeds
) -> Iterator[tuple[str, Feeds, NDArray[Any]]]:
    """Yield role, feeds and logits: all tokens but the last at once, the last from the caches."""
    encoder = session_of(graphs["encoder_model"])
    states = encoder.run(None, dict(feeds))[0]
    ids = decoder_ids(checkpoint, len(states))
    known = {"encoder_hidden_states": states, "encoder_attention_mask": feeds["attention_mask"]}
    known["input_ids"] = ids[:, :-1]
    first = _run(graphs["decoder_model"], known)
    yield "decoder_model", first[0], first[1]["logits"]
    caches = {
        name.replace("present", "past_key_values"): value
        for name, value in first[1].items()
        if name.startswith("present")
    }
    later = _run(graphs["decoder_with_past_model"], {**known, **caches, "input_ids": ids[:, -1:]})
    yield "decoder_with_past_model", later[0], later[1]["logits"]


def _run(path: Path, known: Feeds) -> tuple[Feeds, Outputs]:
    session = session_of(path)
    feeds = {one.name: known[one.name] for one in session.get_inputs()}
    names = [output.name for output in session.get_outputs()]
    return feeds, dict(zip(names, session.run(names, feeds), strict=True))
