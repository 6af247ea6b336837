"""Documents through a translator that writes a letter a step, on a virtual clock."""

import asyncio
from contextlib import aclosing
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.cache.memory import MemoryBackend
from service.cache.responses import CacheOutcome
from service.engine.policy import BatchLimits
from service.errors import (
    DeadlineExceededError,
    InferenceError,
    InvalidInputError,
    LimitExceededError,
    OverloadedError,
    ShuttingDownError,
)
from service.requests.documents import Documents
from service.requests.pipeline import Outcome
from service.requests.request import Request
from service.requests.segment_stream import (
    DocumentLimits,
    Event,
    Heartbeat,
    SegmentDone,
    SegmentGrowth,
    SegmentStream,
    Translator,
    pieces_of,
)
from service.tasks import TranslateItem
from service.transforms.language.segmentation import Document
from tests.sentences import sentence
from tests.unit.spelling_translator import (
    POISON,
    STEP,
    UNREADABLE,
    spelling,
    spelling_in_batches,
)

LIMITS = DocumentLimits(most_segments=100, patience=30.0, heartbeat=1.0)


async def translated(pipeline: Translator, text: str, **options: Any) -> str:
    item = TranslateItem(text)
    outcome = await Documents(LIMITS).answer(pipeline, item, Request(**options))
    return outcome.answer.text


def feed_of(
    pipeline: Translator, text: str, *, grows: bool = False, **options: Any
) -> SegmentStream:
    item = TranslateItem(text)
    split = pipeline.family.traits.split
    assert split is not None
    document = split(item, False) or Document.whole(text)
    asked = list(pieces_of(document, item))
    return SegmentStream(pipeline, asked, Request(**options), LIMITS, grows)


async def heard(feed: SegmentStream) -> list[Event]:
    return [event async for event in feed.events()]


def told(event: Event) -> str:
    """What a listener would write down."""
    match event:
        case SegmentDone(_, Outcome(answer)):
            return answer.text
        case SegmentDone(_, error):
            return type(error).__name__
        case SegmentGrowth(_, text):
            return f"{text}..."
        case _:
            return "?"


async def test_a_document_keeps_its_lines_its_space_and_what_cannot_be_translated() -> None:
    async with spelling() as (pipeline, _, _):
        text = "  one two\r\n\r\n\tthree\n----\n\n 42\nfour \n"
        assert await translated(pipeline, text) == text.upper()


async def test_a_text_that_is_one_piece_is_asked_for_as_it_is() -> None:
    async with spelling() as (pipeline, _, family):
        assert await translated(pipeline, " one ") == " ONE "
    assert family.log[0] == [" one "]


async def test_a_line_that_is_too_long_is_translated_in_sentences() -> None:
    async with spelling() as (pipeline, _, family):
        assert (
            await translated(pipeline, "One two three. Four five.") == "ONE TWO THREE. FOUR FIVE."
        )
    assert family.log[0] == ["One two three.", "Four five."]


@given(st.text(st.sampled_from("ab .!\n\r\t-"), max_size=60))
async def test_whatever_a_document_looks_like_only_its_words_change(text: str) -> None:
    async with spelling() as (pipeline, _, _):
        if not text or text.isspace() or ("a" not in text and "b" not in text):
            return
        joined = await translated(pipeline, text)
    assert joined.replace(" ", "") == text.upper().replace(" ", "")


async def test_pieces_are_computed_together_and_never_more_than_the_window() -> None:
    async with spelling() as (pipeline, _, family):
        assert pipeline.window == 4
        await translated(pipeline, "\n".join(f"ab{letter}" for letter in "abcdefgh"))
    assert max(map(len, family.log)) <= 4
    assert len(family.log) <= 8


async def test_hundreds_of_lines_pass_a_queue_of_sixteen() -> None:
    lines = [f"line {chr(97 + n % 26)}{chr(97 + n // 26 % 26)}" for n in range(300)]
    limits = DocumentLimits(most_segments=300, patience=30.0)
    async with spelling() as (pipeline, _, _):
        item = TranslateItem("\n".join(lines))
        outcome = await Documents(limits).answer(pipeline, item, Request())
    assert outcome.answer.text == "\n".join(lines).upper()


async def test_events_come_in_the_order_of_the_text() -> None:
    async with spelling() as (pipeline, _, _):
        events = await heard(feed_of(pipeline, "abcdefgh\nab\nabc"))
    assert [told(event) for event in events] == ["ABCDEFGH", "AB", "ABC"]


async def test_only_the_piece_whose_turn_it_is_is_told_to_grow() -> None:
    async with spelling() as (pipeline, _, _):
        events = await heard(feed_of(pipeline, "abc\nabcde", grows=True))
    said = ["A...", "AB...", "ABC", "ABC...", "ABCD...", "ABCDE"]
    assert [told(event) for event in events] == said


async def test_nothing_new_is_told_after_a_while() -> None:
    async with spelling() as (pipeline, _, _):
        events = await heard(feed_of(pipeline, "a" * 15))
    assert events[0] == Heartbeat()
    assert [told(event) for event in events] == ["?", "A" * 15]


@pytest.mark.parametrize(
    ("bad", "error"), [(UNREADABLE, InvalidInputError), (POISON, InferenceError)]
)
async def test_a_piece_that_fails_fails_alone(bad: str, error: type[Exception]) -> None:
    async with spelling() as (pipeline, _, _):
        events = await heard(feed_of(pipeline, f"one\n{bad}\ntwo"))
        assert [told(event) for event in events] == ["ONE", error.__name__, "TWO"]
        with pytest.raises(error, check=sentence):
            await translated(pipeline, f"one\n{bad}\ntwo")


async def test_who_stops_listening_is_computed_for_no_further() -> None:
    async with spelling() as (pipeline, engine, family):
        feed = feed_of(pipeline, "\n".join(["abcdefgh"] * 3 + ["ijklmnop"] * 9), grows=True)
        async with aclosing(feed.events()) as events:
            await anext(events)
        assert repr(engine) == "<InFlightEngine 0 waiting, 2 running>"
        steps = len(family.log)
        await asyncio.sleep(5 * STEP)
        assert repr(engine) == "<InFlightEngine 0 waiting, 0 running>"
        assert len(family.log) - steps <= 1
        assert pipeline.active == 0


async def test_who_is_cancelled_leaves_within_a_step_and_others_go_on() -> None:
    async with spelling() as (pipeline, engine, family):
        other = asyncio.create_task(translated(pipeline, "stay\nhere a while"))
        lines = [f"abcdefghijk{n}" for n in "abcdefghijklmno"]
        leaving = asyncio.create_task(translated(pipeline, "\n".join(lines)))
        await asyncio.sleep(3.5 * STEP)
        assert engine.statistics().rows_in_use > 2
        leaving.cancel()
        await asyncio.sleep(1.1 * STEP)
        assert engine.statistics().rows_in_use <= 2
        assert engine.statistics().pending == 0
        assert await other == "STAY\nHERE A WHILE"
        with pytest.raises(asyncio.CancelledError):
            await leaving
    assert set(family.log[-1]) == {"here a while"}


async def test_at_its_deadline_a_document_ends_and_leaves_nothing_behind(looptime: Any) -> None:
    async with spelling() as (pipeline, engine, _):
        deadline = asyncio.get_running_loop().time() + 1.25
        with pytest.raises(DeadlineExceededError):
            await translated(pipeline, "\n".join(["abcdefghijkl"] * 9), deadline=deadline)
        assert looptime == pytest.approx(1.25, abs=0.01)
        await asyncio.sleep(2 * STEP)
        assert repr(engine) == "<InFlightEngine 0 waiting, 0 running>"


async def test_a_document_waits_for_room_in_a_queue_that_others_have_filled() -> None:
    async with spelling(max_batch_size=1, max_queue_size=2) as (pipeline, engine, _):
        others = []
        for letter in "abc":
            answer = pipeline.answer(TranslateItem(letter * 9), Request())
            others.append(asyncio.create_task(answer))
            await asyncio.sleep(STEP / 4)
        with pytest.raises(OverloadedError):
            engine.check_room()
        assert await translated(pipeline, "one\ntwo") == "ONE\nTWO"
        await asyncio.gather(*others)


async def test_a_document_passes_nobody_who_came_before_its_next_piece() -> None:
    """However near the document's own deadline is."""
    async with spelling(max_batch_size=2) as (pipeline, _, family):
        deadline = asyncio.get_running_loop().time() + 20
        lines = [letter * 6 for letter in "abcdefghijkl"]
        document = asyncio.create_task(translated(pipeline, "\n".join(lines), deadline=deadline))
        await asyncio.sleep(0.5 * STEP)
        later = asyncio.get_running_loop().time() + 29.9
        await pipeline.answer(TranslateItem("zz"), Request(deadline=later))
        before = {text for texts in family.log for text in texts}
        assert len(before) <= 3
        await document


async def test_who_reads_slowly_is_computed_for_a_few_windows_ahead_only() -> None:
    async with spelling() as (pipeline, _, family):
        feed = feed_of(pipeline, "\n".join(f"x{n}" for n in "abcdefghijklmnopqrstuvwxyz"))
        async with aclosing(feed.events()) as events:
            await anext(events)
            await asyncio.sleep(100)
            assert len({text for texts in family.log for text in texts}) == 4 * 4 + 1


async def test_a_line_that_comes_again_is_computed_once() -> None:
    backend = MemoryBackend(1 << 20, 100, 60.0)
    async with spelling(backend=backend) as (pipeline, _, family):
        item = TranslateItem("again\nagain\nonce\nagain")
        outcome = await Documents(LIMITS).answer(pipeline, item, Request())
        assert outcome.answer.text == "AGAIN\nAGAIN\nONCE\nAGAIN"
        assert outcome.cache is CacheOutcome.MISS
        computed = len(family.log)
        outcome = await Documents(LIMITS).answer(pipeline, item, Request())
        assert outcome.cache is CacheOutcome.HIT
    assert len(family.log) == computed
    assert all(texts.count("again") <= 1 for texts in family.log)


async def test_a_translator_in_batches_fills_them_with_a_document(looptime: Any) -> None:
    async with spelling_in_batches() as pipeline:
        assert not pipeline.is_in_flight
        text = "\n".join(f"line {letter}" for letter in "abcdefgh")
        assert await translated(pipeline, text) == text.upper()
    assert looptime == pytest.approx(2 * STEP)


async def test_too_many_pieces_are_refused_however_they_are_spread() -> None:
    async with spelling() as (pipeline, _, _):
        documents = Documents(DocumentLimits(3, 1.0))
        await documents.open(pipeline, TranslateItem("a\nb"))
        await documents.open(pipeline, TranslateItem("c"))
        with pytest.raises(LimitExceededError, check=sentence):
            await documents.open(pipeline, TranslateItem("d"))


async def test_without_splitting_a_text_is_one_piece_whatever_it_is() -> None:
    async with spelling() as (pipeline, _, _):
        assert await Documents(LIMITS, "none").open(pipeline, TranslateItem("a\nb")) is None
        document = await Documents(LIMITS, "sentences").open(pipeline, TranslateItem("One. Two."))
    assert document is not None
    assert [segment.text for segment in document.segments] == ["One.", "Two."]


async def test_alternatives_of_several_pieces_are_refused() -> None:
    async with spelling() as (pipeline, _, _):
        item = TranslateItem("a\nb", alternatives=2)
        with pytest.raises(InvalidInputError, check=sentence):
            await Documents(LIMITS).answer(pipeline, item, Request())


async def test_a_version_is_not_idle_while_a_document_is_between_two_pieces() -> None:
    async with spelling() as (pipeline, _, _):
        with pipeline.held():
            await pipeline.answer(TranslateItem("one"), Request())
            assert not pipeline.idle.is_set()
        assert pipeline.idle.is_set()


async def test_a_model_that_stops_fails_what_is_left(looptime: Any) -> None:
    async with spelling() as (pipeline, engine, _):
        document = asyncio.create_task(translated(pipeline, "\n".join(["abcdefghij"] * 9)))
        await asyncio.sleep(2 * STEP)
        await engine.stop(grace=0)
        with pytest.raises(ShuttingDownError, check=sentence):
            await document


@pytest.mark.parametrize(
    ("batch", "queue", "batches", "window"),
    [(32, 256, 1, 32), (32, 256, 2, 64), (32, 64, 2, 16), (1, 256, 0.5, 1), (8, 2, 1, 1)],
)
def test_a_window_keeps_a_device_busy_and_leaves_most_of_the_queue_to_others(
    batch: int, queue: int, batches: float, window: int
) -> None:
    assert BatchLimits(batch, queue).window(batches) == window
