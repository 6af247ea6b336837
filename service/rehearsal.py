"""Whether graphs, tokenizer and labels are of one model: found out before a session opens.

A graph of a gigabyte takes seconds to open, and its header says at once what it takes and gives.
"""

from collections.abc import Collection, Mapping
from typing import Any, NoReturn

from service.errors import InferenceError, ModelLoadError
from service.families.base import KnowsItsHead
from service.repository.embedding_rows import embedding_rows
from service.repository.repository import VersionFiles
from service.repository.signature import GraphSignature, read_signature
from service.types import DeviceValue, Family, Feed, Feeds, Lane, TensorSpec


class _PlayedError(Exception):
    """The rehearsal came to the point where a graph would compute."""


class _Stage:
    """A session that takes feeds as its graph would, and computes nothing."""

    def __init__(self, name: str, signature: GraphSignature) -> None:
        self._name = name
        self.inputs: Mapping[str, TensorSpec] = signature.inputs
        self.outputs: Mapping[str, TensorSpec] = signature.outputs

    def run(self, feeds: Mapping[str, Feed]) -> Feeds:
        """Raise InferenceError for feeds that the graph does not take."""
        self._refuse_misfits(feeds)

    def run_kept(
        self, feeds: Mapping[str, Feed], host: Collection[str]
    ) -> tuple[Feeds, Mapping[str, DeviceValue]]:
        """Do as `run` does."""
        self._refuse_misfits(feeds)

    def _refuse_misfits(self, feeds: Mapping[str, Feed]) -> NoReturn:
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
                    )
        raise _PlayedError


def refuse_misfits(files: VersionFiles, family: Family[Any, Any]) -> None:
    """Compare what a family feeds and expects with what its graphs take and give.

    Raises:
        ModelLoadError: they do not fit each other, so that no item could be answered.
    """
    where = f"{files.model}/{files.version}"
    signatures = {name: read_signature(path) for name, path in files.graphs.items()}
    for lane in family.lanes:
        _refuse_unknown_ids(files, family, lane)
        try:
            _rehearse(files, family, lane, signatures)
        except InferenceError as error:
            raise ModelLoadError(f"{where}: {error}") from error
    if isinstance(family, KnowsItsHead):
        outputs = {name: signature.outputs for name, signature in signatures.items()}
        if said := family.head_problem(outputs):
            raise ModelLoadError(f"{where}: {said}")


def _rehearse(
    files: VersionFiles,
    family: Family[Any, Any],
    lane: Lane,
    signatures: Mapping[str, GraphSignature],
) -> None:
    """Let the family feed an item of the shortest length. Raises InferenceError."""
    stages = {name: _Stage(files.graphs[name].name, said) for name, said in signatures.items()}
    probe = family.probe(lane.name, lane.lengths[0])
    try:
        family.infer(stages, [probe])
    except InferenceError:
        raise
    except Exception:  # also _PlayedError; of what else there is, warm-up will tell
        return


def _refuse_unknown_ids(files: VersionFiles, family: Family[Any, Any], lane: Lane) -> None:
    """Compare the largest token id with the graphs' embeddings: a GPU reads beyond in silence."""
    where = f"{files.model}/{files.version}"
    try:
        ids = family.probe(lane.name, lane.lengths[0]).tensors.get("input_ids")
    except MemoryError:
        raise ModelLoadError(
            f"{where}: {lane.lengths[0]} tokens or pixels, the shortest that it says it takes, "
            "need more memory than there is"
        ) from None
    if ids is None:
        return
    for session in lane.sessions:
        graph = files.graphs.get(session)
        rows = None if graph is None else embedding_rows(graph)
        if graph is not None and rows is not None and ids.max() >= rows:
            raise ModelLoadError(
                f"{where}: the tokenizer and pad_id give ids up to {ids.max()}, and "
                f"{graph.name} knows {rows} tokens: they are of two models"
            )
