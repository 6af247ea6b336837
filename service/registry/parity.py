"""How a loaded version compares with its original, and with itself in other company.

The goldens are asked alone, all at once, and each next to a longer one; every answer is compared
with the recorded answer of the original model, and with the answer to the same item alone.
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

RunTogether: TypeAlias = Callable[[Sequence[PreparedItem]], Awaitable[Sequence[Tensors]]]
"""Runs works as one batch, whatever a batcher would make of them."""

_CALM = Request(priority=-100, cache=CacheMode.BYPASS)
"""How goldens are asked: behind everybody else, and never from the cache."""

_ROWS = 4
"""Of a batch of goldens."""

_PADDED = 16
"""Of so many goldens at most the padded answer is looked at: that asks one at a time."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What became of the goldens when they were asked in one way."""

    deviation: float
    """From the recorded answers; a share of texts for translate, else the largest."""
    flips: int
    """Answers that decide otherwise: another best label, another text, other objects."""
    worst: int
    """Number of the golden that deviates most."""


@dataclass(frozen=True, slots=True)
class Parity:
    """The evidence that a version answers as its original does, on the device it runs on."""

    goldens: int
    precision: str
    device: str
    tolerance: float
    """Largest deviation with which it becomes ready."""
    deviation: float
    """The largest, over all ways of asking."""
    ways: Mapping[str, Comparison]
    """By way of asking: alone, batched, padded."""
    batch_deviation: float
    """Largest deviation of an answer in company from the answer to the same item alone."""
    batch_flips: int
    """Answers in company that decide otherwise than alone."""
    batch_wide: Sequence[str]
    """Graphs that quantise over whole batches, so that a row may depend on its neighbours."""

    @property
    def flips(self) -> int:
        """Return the most flips in one way of asking."""
        return max(way.flips for way in self.ways.values())


async def compare(
    pipeline: Pipeline[Any, Any],
    files: VersionFiles,
    device: str,
    batch_wide: Sequence[str] = (),
    together: RunTogether | None = None,
) -> Parity | None:
    """Ask every golden in every way; None if there are none.

    Args:
        pipeline: the version, its batchers started.
        files: its goldens, and what they tolerate.
        device: where it runs.
        batch_wide: the graphs that quantise over whole batches.
        together: runs works as one batch; without it, for a version that never does so, the
            goldens are asked all at once.

    Raises:
        ModelLoadError: an answer failed, or is further from its golden than the tolerance.
    """
    goldens = files.goldens
    if not goldens:
        return None
    items = [golden.item for golden in goldens]
    wanted = [golden.answer for golden in goldens]
    try:
        alone = [(await pipeline.answer(item, _CALM)).answer for item in items]
        if together is None:
            company = {"batched": await _at_once(pipeline, items)}
        else:
            works = await _works(pipeline, items)
            company = {
                "batched": await _batched(pipeline, items, works, together),
                "padded": await _padded(pipeline, items, works, together),
            }
    except ServiceError as error:
        raise ModelLoadError(f"a golden item failed: {error}") from error
    ways = {"alone": dict(enumerate(alone)), **company}
    compared = {way: _compare(pipeline, found, wanted) for way, found in ways.items() if found}
    varied = [_compare(pipeline, found, alone) for found in company.values() if found]
    parity = Parity(
        goldens=len(goldens),
        precision=files.precision,
        device=device,
        tolerance=files.tolerance,
        deviation=max(way.deviation for way in compared.values()),
        ways=compared,
        batch_deviation=max(one.deviation for one in varied),
        batch_flips=max(one.flips for one in varied),
        batch_wide=batch_wide,
    )
    _refuse_beyond_tolerance(parity)
    return parity


async def _at_once(pipeline: Pipeline[Any, Any], items: Sequence[AnyItem]) -> Mapping[int, Answer]:
    outcomes = await asyncio.gather(*(pipeline.answer(item, _CALM) for item in items))
    return {index: outcome.answer for index, outcome in enumerate(outcomes)}


async def _works(pipeline: Pipeline[Any, Any], items: Sequence[AnyItem]) -> Sequence[PreparedItem]:
    preprocess = pipeline.family.processor.preprocess
    return await apart(lambda: [preprocess(item) for item in items])


async def _batched(
    pipeline: Pipeline[Any, Any],
    items: Sequence[AnyItem],
    works: Sequence[PreparedItem],
    together: RunTogether,
) -> Mapping[int, Answer]:
    """Return the answers in batches of what may share one, in the order of the goldens."""
    alike: dict[Any, list[int]] = {}
    for index, work in enumerate(works):
        alike.setdefault((work.lane, work.group), []).append(index)
    answers = {}
    for indices in alike.values():
        for begin in range(0, len(indices), _ROWS):
            batch = indices[begin : begin + _ROWS]
            results = await together([works[index] for index in batch])
            for index, result in zip(batch, results, strict=True):
                answers[index] = pipeline.family.processor.postprocess(result, items[index])
    return answers


async def _padded(
    pipeline: Pipeline[Any, Any],
    items: Sequence[AnyItem],
    works: Sequence[PreparedItem],
    together: RunTogether,
) -> Mapping[int, Answer]:
    """Return the answers next to the longest of the same lane and group, where there is one."""
    longest: dict[Any, PreparedItem] = {}
    for work in sorted(works, key=lambda work: work.length):
        longest[work.lane, work.group] = work
    answers: dict[int, Answer] = {}
    for index, (item, work) in enumerate(zip(items, works, strict=True)):
        neighbour = longest[work.lane, work.group]
        if neighbour.length > work.length and len(answers) < _PADDED:
            first, _ = await together([work, neighbour])
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
