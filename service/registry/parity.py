"""Compares a loaded version with its original, and its batched answers with unbatched ones.

The goldens are answered one by one, in batches, and each in a batch with a longer one. Every answer
is compared with the recorded answer of the original model and with the unbatched answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from service.cache.responses import CacheMode
from service.errors import ModelLoadError, ServiceError
from service.repository.deviation import decides_otherwise, deviation, total_deviation
from service.repository.repository import VersionFiles
from service.requests.pipeline import Pipeline
from service.requests.request import Request
from service.runtime.stopping import apart
from service.tasks import Answer, AnyItem
from service.types import PreparedItem, Tensors

RunBatch: TypeAlias = Callable[[Sequence[PreparedItem]], Awaitable[Sequence[Tensors]]]
"""Runs items as one batch, without the batcher's policy."""

# Goldens wait for all other requests, and are never answered from the cache.
_REQUEST = Request(priority=-100, cache=CacheMode.BYPASS)

# Items in a batch of goldens.
_ROWS = 4

# The most goldens that are answered with padding: each takes a run of its own.
_MAX_PADDED = 16


@dataclass(frozen=True, slots=True)
class Comparison:
    """How the answers to the goldens compare, answered in one way."""

    deviation: float
    """From the recorded answers: the share of texts that differ for translate, else the largest."""
    flips: int
    """Answers with another decision: another best label, another text, other objects."""
    worst: int
    """Index of the golden that deviates most."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Evidence that a version answers as its original does, on its device."""

    goldens: int
    precision: str
    device: str
    tolerance: float
    """Largest deviation with which the version becomes ready."""
    deviation: float
    """Largest deviation, over all ways."""
    ways: Mapping[str, Comparison]
    """By way: alone, batched, padded."""
    batch_deviation: float
    """Largest difference between a golden answered in a batch and answered alone."""
    batch_flips: int
    """Goldens with another decision in a batch than alone."""
    batch_wide: Sequence[str]
    """Graphs that quantise over whole batches, so a row may depend on the others."""
    row_scaled: Sequence[str]
    """Graphs that did so in their files, and quantise each row by itself here."""

    @property
    def flips(self) -> int:
        """Return the most flips in one way."""
        return max(way.flips for way in self.ways.values())


async def compare(  # noqa: PLR0913 - each is one fact of the report
    pipeline: Pipeline[Any, Any],
    files: VersionFiles,
    device: str,
    batch_wide: Sequence[str] = (),
    row_scaled: Sequence[str] = (),
    run_batch: RunBatch | None = None,
    *,
    tolerance: float | None = None,
) -> Parity | None:
    """Answer every golden in every way; None if there are none.

    Args:
        pipeline: of the version, its engines started.
        files: the goldens and their tolerance.
        device: the version's.
        batch_wide: the graphs that quantise over whole batches.
        row_scaled: the graphs that quantise by rows instead.
        run_batch: runs items as one batch; None for a version that is never batched, whose
            goldens are sent concurrently instead.
        tolerance: largest deviation, if it is not the one of the version's precision.

    Raises:
        ModelLoadError: an answer failed, or is further from its golden than the tolerance.
    """
    goldens = files.goldens
    if not goldens:
        return None
    items = [golden.item for golden in goldens]
    wanted = [golden.answer for golden in goldens]
    try:
        alone = [(await pipeline.answer(item, _REQUEST)).answer for item in items]
        if run_batch is None:
            varied = {"batched": await _concurrent(pipeline, items)}
        else:
            prepared = await _preprocessed(pipeline, items)
            varied = {
                "batched": await _batched(pipeline, items, prepared, run_batch),
                "padded": await _padded(pipeline, items, prepared, run_batch),
            }
    except ServiceError as error:
        raise ModelLoadError(f"a golden item failed: {error}") from error
    ways = {"alone": dict(enumerate(alone)), **varied}
    compared = {way: _compare(pipeline, found, wanted) for way, found in ways.items() if found}
    changes = [_compare(pipeline, found, alone) for found in varied.values() if found]
    parity = Parity(
        goldens=len(goldens),
        precision=files.precision,
        device=device,
        tolerance=files.tolerance if tolerance is None else tolerance,
        deviation=max(way.deviation for way in compared.values()),
        ways=compared,
        batch_deviation=max(one.deviation for one in changes),
        batch_flips=max(one.flips for one in changes),
        batch_wide=batch_wide,
        row_scaled=row_scaled,
    )
    _refuse_beyond_tolerance(parity)
    return parity


async def still_agrees(pipeline: Pipeline[Any, Any], files: VersionFiles, before: Parity) -> bool:
    """Answer the first golden again; return whether it agrees as an earlier load found it to."""
    golden = files.goldens[0]
    try:
        found = (await pipeline.answer(golden.item, _REQUEST)).answer
    except ServiceError:
        return False
    return deviation(found, golden.answer) <= max(before.deviation, 0.1 * before.tolerance)


async def _concurrent(
    pipeline: Pipeline[Any, Any], items: Sequence[AnyItem]
) -> Mapping[int, Answer]:
    outcomes = await asyncio.gather(*(pipeline.answer(item, _REQUEST) for item in items))
    return {index: outcome.answer for index, outcome in enumerate(outcomes)}


async def _preprocessed(
    pipeline: Pipeline[Any, Any], items: Sequence[AnyItem]
) -> Sequence[PreparedItem]:
    preprocess = pipeline.family.processor.preprocess
    return await apart(lambda: [preprocess(item) for item in items])


async def _batched(
    pipeline: Pipeline[Any, Any],
    items: Sequence[AnyItem],
    prepared: Sequence[PreparedItem],
    run_batch: RunBatch,
) -> Mapping[int, Answer]:
    """Return the answers in batches of one lane and group, by the golden's index."""
    alike: dict[Any, list[int]] = {}
    for index, one in enumerate(prepared):
        alike.setdefault((one.lane, one.group), []).append(index)
    answers = {}
    for indices in alike.values():
        for begin in range(0, len(indices), _ROWS):
            batch = indices[begin : begin + _ROWS]
            results = await run_batch([prepared[index] for index in batch])
            for index, result in zip(batch, results, strict=True):
                answers[index] = pipeline.family.processor.postprocess(result, items[index])
    return answers


async def _padded(
    pipeline: Pipeline[Any, Any],
    items: Sequence[AnyItem],
    prepared: Sequence[PreparedItem],
    run_batch: RunBatch,
) -> Mapping[int, Answer]:
    """Return the answers of goldens batched with the longest of their lane and group."""
    longest: dict[Any, PreparedItem] = {}
    for one in sorted(prepared, key=lambda one: one.length):
        longest[one.lane, one.group] = one
    answers: dict[int, Answer] = {}
    for index, (item, one) in enumerate(zip(items, prepared, strict=True)):
        longer = longest[one.lane, one.group]
        if longer.length > one.length and len(answers) < _MAX_PADDED:
            first, _ = await run_batch([one, longer])
            answers[index] = pipeline.family.processor.postprocess(first, item)
    return answers


def _compare(
    pipeline: Pipeline[Any, Any], found: Mapping[int, Answer], wanted: Sequence[Answer]
) -> Comparison:
    deviations = {index: deviation(answer, wanted[index]) for index, answer in found.items()}
    flips = sum(decides_otherwise(answer, wanted[index]) for index, answer in found.items())
    total = total_deviation(pipeline.task, list(deviations.values()))
    return Comparison(total, flips, max(deviations, key=deviations.__getitem__))


def _refuse_beyond_tolerance(parity: Parity) -> None:
    for way, found in parity.ways.items():
        if not found.deviation <= parity.tolerance:
            raise ModelLoadError(
                f"goldens asked {way} deviate by {found.deviation:.3g} from their recorded answers "
                f"(worst is number {found.worst}); {parity.precision} allows {parity.tolerance:g}"
            )
