"""A pipeline asks its model as often as the family's plan for an item wants."""

import asyncio
from collections.abc import Generator
from dataclasses import dataclass, replace

import pytest

from service.cache.memory import MemoryBackend
from service.cache.responses import CacheOutcome
from service.errors import InferenceError
from service.families.family import Opened, Traits
from service.requests.documents import Documents
from service.requests.pipeline import Pipeline
from service.requests.request import Request
from service.requests.segment_stream import DocumentLimits
from service.tasks import KeptTerm, TranslateItem, Translation
from service.types import Tensors
from tests.unit.spelling_translator import POISON, STEP, SpellingFamily, spelling


@dataclass
class TwiceFamily(SpellingFamily):
    """Asks for a text with terms twice: as it is, and with a stand-in."""

    def plan(
        self, item: TranslateItem
    ) -> Generator[TranslateItem, Translation, Translation] | None:
        return self._tries(item) if item.glossary else None

    def _tries(self, item: TranslateItem) -> Generator[TranslateItem, Translation, Translation]:
        ((source, target),) = item.glossary
        bare = replace(item, glossary=())
        plain = yield bare
        if source not in item.text:
            return plain
        tried = yield replace(bare, text=item.text.replace(source, "tom"))
        kept = KeptTerm(source, target, "TOM" in tried.text)
        return replace(tried, text=tried.text.replace("TOM", target), glossary=(kept,))


def twice(pipeline: Pipeline[TranslateItem, Translation]) -> Pipeline[TranslateItem, Translation]:
    family = TwiceFamily()
    return replace(pipeline, family=Opened(family, family, Traits(plan=family.plan)))


ITEM = TranslateItem("ann sings", glossary=(("ann", "Anna"),))


async def test_an_item_with_a_plan_is_asked_until_the_plan_returns() -> None:
    async with spelling() as (pipeline, _, family):
        outcome = await twice(pipeline).answer(ITEM, Request())
        assert outcome.answer.text == "Anna SINGS"
        assert outcome.answer.glossary == (KeptTerm("ann", "Anna", True),)
        texts = list(dict.fromkeys(text for step in family.log for text in step))
        assert texts == ["ann sings", "tom sings"]
        assert outcome.timings.compute == pytest.approx(2 * len("ann sings") * STEP, abs=STEP)


async def test_an_item_without_a_plan_is_asked_once() -> None:
    async with spelling() as (pipeline, _, family):
        outcome = await twice(pipeline).answer(TranslateItem("ann"), Request())
        assert outcome.answer.text == "ANN"
        assert {text for step in family.log for text in step} == {"ann"}


async def test_what_is_tried_is_not_shown_while_it_is_written() -> None:
    seen: list[Tensors] = []
    async with spelling() as (pipeline, _, _):
        await twice(pipeline).answer(ITEM, Request(), seen.append)
        assert not seen
        await pipeline.answer(TranslateItem("ann"), Request(), seen.append)
        assert seen


async def test_the_settled_answer_is_cached_under_the_item_itself() -> None:
    backend = MemoryBackend(1 << 20, max_entries=100, ttl=60)
    async with spelling(backend=backend) as (pipeline, _, _):
        first = await twice(pipeline).answer(ITEM, Request())
        again = await pipeline.answer(ITEM, Request())
        assert (first.cache, again.cache) == (CacheOutcome.MISS, CacheOutcome.HIT)
        assert again.answer == first.answer
        bare = await pipeline.answer(TranslateItem(ITEM.text), Request())
        assert (bare.cache, bare.answer.text) == (CacheOutcome.MISS, "ANN SINGS")


async def test_a_try_that_fails_fails_the_item() -> None:
    async with spelling() as (pipeline, _, _):
        item = TranslateItem(POISON, glossary=(("poison", "x"),))
        with pytest.raises(InferenceError):
            await twice(pipeline).answer(item, Request())


async def test_who_is_cancelled_between_two_tries_leaves_nothing_behind() -> None:
    async with spelling() as (pipeline, engine, _):
        asking = asyncio.create_task(twice(pipeline).answer(ITEM, Request()))
        await asyncio.sleep(STEP * (len(ITEM.text) + 2))
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.sleep(2 * STEP)
        assert engine.statistics().rows_in_use == 0
        assert pipeline.active == 0


async def test_in_a_document_a_term_is_told_once_and_kept_if_it_is_kept_everywhere() -> None:
    async with spelling() as (pipeline, _, _):
        documents = Documents(DocumentLimits(most_segments=9, patience=30.0))
        item = replace(ITEM, text="ann sings\n\nnobody\nann goes")
        outcome = await documents.answer(twice(pipeline), item, Request())
        assert outcome.answer.text == "Anna SINGS\n\nNOBODY\nAnna GOES"
        assert outcome.answer.glossary == (KeptTerm("ann", "Anna", True),)
