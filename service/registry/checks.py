"""Checks that graphs, tokenizer and labels belong to one model, before a session opens.

A graph of a gigabyte takes seconds to open; its header declares its inputs and outputs.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from service.errors import InferenceError, ModelLoadError
from service.families.family import Opened
from service.repository.onnx_file.analysis import embedding_rows
from service.repository.onnx_file.reader import read_onnx, read_signature
from service.repository.onnx_file.records import GraphSignature
from service.repository.repository import VersionFiles
from service.runtime.instances import Instances
from service.types import DeviceValue, Feed, Feeds, Lane, Model, TensorSpec, renamed

_EXACT = ("fp32", "fp16")
# Axes of a batch of images.
_IMAGES = 4
_NHWC, _NCHW = (0, 2, 3, 1), (0, 3, 1, 2)


class _ShapesFitError(Exception):
    """The feeds fit, so the graph would compute now."""


class _ShapeSession:
    """A session that compares feeds with its graph's inputs, and computes nothing."""

    def __init__(self, path: Path, signature: GraphSignature) -> None:
        self._path, self._name = path, path.name
        self.inputs: Mapping[str, TensorSpec] = signature.inputs
        self.outputs: Mapping[str, TensorSpec] = signature.outputs

    def run(self, feeds: Mapping[str, Feed]) -> Feeds:
        """Raise InferenceError for feeds that do not fit, else _ShapesFitError."""
        self._check(feeds)

    def run_kept(
        self, feeds: Mapping[str, Feed], host: Collection[str]
    ) -> tuple[Feeds, Mapping[str, DeviceValue]]:
        """Raise as `run` does."""
        self._check(feeds)

    def _check(self, feeds: Mapping[str, Feed]) -> NoReturn:
        for name, spec in self.inputs.items():
            if name not in feeds:
                raise InferenceError(f"{self._name} wants {name!r}, which it is not fed")
            shape = feeds[name].shape
            if spec.shape and len(shape) != len(spec.shape):
                raise InferenceError(
                    f"{self._name} takes {len(spec.shape)} axes of {name}, and is fed {len(shape)}"
                )
            for axis, (fed, taken) in enumerate(zip(shape, spec.shape, strict=False)):
                if taken not in (None, fed):
                    raise InferenceError(
                        f"{self._name} takes {taken} along axis {axis} of {name}, and is fed {fed}"
                        f"{_turned(shape, spec.shape)}"
                    )
        if "input_ids" in feeds:
            self._check_ids(feeds["input_ids"])
        raise _ShapesFitError

    def _check_ids(self, ids: Feed) -> None:
        """Compare token ids with the graph's embedding; a GPU reads beyond it without an error."""
        rows = embedding_rows(read_onnx(self._path))
        if rows is not None and isinstance(ids, np.ndarray) and ids.max() >= rows:
            raise InferenceError(
                f"the tokenizer and pad_id give ids up to {ids.max()}, and {self._name} knows "
                f"{rows} tokens: they are of two models"
            )


def _turned(fed: Sequence[int], taken: Sequence[int | None]) -> str:
    """Return what to set if images would fit with their channels on another axis."""
    if len(fed) != _IMAGES:
        return ""
    for axes, wanted in ((_NHWC, "true"), (_NCHW, "false")):
        turned = [fed[axis] for axis in axes]
        if all(b in (None, a) for a, b in zip(turned, taken, strict=True)):
            return f": set channels_last = {wanted} in [parameters.processing]"
    return ""


def check_shapes(files: VersionFiles, family: Opened[Any, Any]) -> None:
    """Compare the feeds and labels of a family with its graphs' inputs and outputs.

    Raises:
        ModelLoadError: they do not fit, so no item could be answered.
    """
    where = f"{files.model}/{files.version}"
    signatures = _signatures(files)
    for lane in family.model.lanes:
        try:
            _check_lane(files, family.model, lane, signatures)
        except InferenceError as error:
            raise ModelLoadError(f"{where}: {error}") from error
    if family.traits.head_problem is not None:
        outputs = {name: signature.outputs for name, signature in signatures.items()}
        if problem := family.traits.head_problem(outputs):
            raise ModelLoadError(f"{where}: {problem}")


def try_head(files: VersionFiles, family: Opened[Any, Any], instances: Instances) -> None:
    """Let a family check its head's scores for a few images; goldens replace this check.

    Quantised graphs are not checked: they round small scores to zero.

    Raises:
        ModelLoadError: the scores show that the head is declared wrongly.
    """
    try_head = family.traits.try_head
    if try_head is None or files.goldens or files.precision not in _EXACT:
        return
    if problem := instances.use(try_head, exclusive=False):
        raise ModelLoadError(f"{files.model}/{files.version}: {problem}")


def _signatures(files: VersionFiles) -> Mapping[str, GraphSignature]:
    """Return the graphs' headers, with the family's names of inputs. Raises ModelLoadError."""
    read = {name: read_signature(path) for name, path in files.graphs.items()}
    taken = [name for signature in read.values() for name in signature.inputs]
    names = files.manifest.inputs
    if unknown := [name for name in names.values() if name not in taken]:
        raise ModelLoadError(
            f"{files.model}/{files.version}: inputs names {', '.join(unknown)}, which no graph "
            f"takes; they take {', '.join(dict.fromkeys(taken))}"
        )
    return {
        session: replace(signature, inputs=renamed(signature.inputs, names))
        for session, signature in read.items()
    }


def _check_lane(
    files: VersionFiles,
    model: Model,
    lane: Lane,
    signatures: Mapping[str, GraphSignature],
) -> None:
    """Feed a batch of the two shortest lengths. Raises InferenceError."""
    stages = {name: _ShapeSession(files.graphs[name], one) for name, one in signatures.items()}
    is_padded = _takes_several(signatures[lane.sessions[0]])
    try:
        batch = [model.probe(lane.name, length) for length in lane.lengths[: 1 + is_padded]]
    except MemoryError:
        raise ModelLoadError(
            f"{files.model}/{files.version}: {lane.lengths[0]} tokens or pixels, its shortest "
            "length, need more memory than there is"
        ) from None
    try:
        model.infer(stages, batch)
    except InferenceError:
        raise
    except Exception:  # also _ShapesFitError; warm-up reports any other error
        return


def _takes_several(signature: GraphSignature) -> bool:
    """Tell whether the graph takes several rows of token ids, the shorter ones padded."""
    ids = signature.inputs.get("input_ids")
    return ids is not None and len(ids.shape) > 1 and ids.shape[0] is None


def is_isolated(
    files: VersionFiles, variant: Sequence[str], reason: str = "quantises over whole batches"
) -> bool:
    """Return whether a version's items must run unbatched.

    Args:
        files: the version.
        variant: graphs whose answers depend on the other items of a batch.
        reason: why they do.

    Raises:
        ModelLoadError: there are such graphs, and the manifest refuses them.
    """
    wanted = files.manifest.batch_variance
    if variant and wanted == "refuse":
        raise ModelLoadError(
            f"{files.model}/{files.version}: {', '.join(variant)} in {files.precision} "
            f"{reason}, which batch_variance refuses"
        )
    return bool(variant) and wanted in ("isolate", "rows")
