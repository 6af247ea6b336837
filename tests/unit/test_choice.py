"""What computes a version: candidates of a fake provider, their answers, their times."""

import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_provider import FIRST_SECONDS, Fake, PacedSession, add_fake, loaded, rows

from service.engine.side_by_side import Pair, compare_sessions, saves_enough
from service.registry.candidates import relative_difference, units
from service.types import Feed, Feeds, Lane, PreparedItem
from tests.lamps import make_repository
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)  # sessions run on real threads


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return add_fake(monkeypatch)


async def test_the_faster_one_computes_and_its_goldens_agree(fake: Fake, tmp_path: Path) -> None:
    async with loaded(tmp_path) as one:
        found = rows(one)
        assert found["cpu", "fp32", "f32"].verdict == "first_choice"
        chosen = found["fake", "fp32", "f32"]
        assert chosen.verdict == "chosen"
        assert chosen.ratio is not None
        assert 0.3 < chosen.ratio < 0.8
        assert one.providers == {"model": "fake"}
        assert one.parity is not None
        assert one.parity.deviation < 1e-4


@pytest.mark.parametrize("share", [0.98, 1.0, 1.5])
async def test_what_is_not_faster_by_five_percent_never_computes(
    fake: Fake, tmp_path: Path, share: float
) -> None:
    fake.seconds = share * FIRST_SECONDS
    async with loaded(tmp_path) as one:
        assert rows(one)["fake", "fp32", "f32"].verdict == "not_faster"
        assert one.providers == {"model": "cpu"}


@pytest.mark.parametrize(
    ("exactness", "shift", "verdict"),
    [
        ("strict", 1e-5, "chosen"),
        ("strict", 0.01, "not_exact"),
        ("close", 0.01, "chosen"),
        ("close", 0.2, "not_exact"),
        ("fast", 0.01, "chosen"),
        ("fast", 0.2, "not_exact"),
        (None, 0.01, "chosen"),
    ],
)
async def test_answers_decide_before_time_does(
    fake: Fake, tmp_path: Path, exactness: str | None, shift: float, verdict: str
) -> None:
    fake.shift = shift
    async with loaded(tmp_path, exactness=exactness) as one:
        assert rows(one)["fake", "fp32", "f32"].verdict == verdict
        assert one.providers == {"model": "fake" if verdict == "chosen" else "cpu"}


async def test_a_machine_without_bf16_has_no_candidate_of_it(fake: Fake, tmp_path: Path) -> None:
    async with loaded(tmp_path) as one:
        assert ("fake", "fp32", "bf16") not in rows(one)
        assert fake.asked


async def test_bf16_is_chosen_where_it_is_close_and_has_cache_entries_of_its_own(
    fake: Fake, tmp_path: Path
) -> None:
    fake.can_bf16, fake.shift, fake.bf16_shift = True, 0.5, 0.01
    async with loaded(tmp_path) as one:
        assert rows(one)["fake", "fp32", "f32"].verdict == "not_exact"
        assert rows(one)["fake", "fp32", "bf16"].verdict == "chosen"
        assert one.pipeline.model.digest == f"{one.files.digest}-bf16"


async def test_strict_asks_for_no_other_arithmetic(fake: Fake, tmp_path: Path) -> None:
    async with loaded(tmp_path, exactness="strict") as one:
        assert {key[2] for key in rows(one)} == {"f32"}
    assert fake.asked == 0


async def test_fast_also_tries_other_precisions_of_the_manifest(fake: Fake, tmp_path: Path) -> None:
    fake.seconds = 2 * FIRST_SECONDS
    async with loaded(tmp_path, exactness="fast") as one:  # the lamps' int8 graph answers wrongly
        assert rows(one)["cpu", "int8", "f32"].verdict == "not_exact"
        assert one.files.precision == "fp32"


async def test_a_choice_is_kept_for_the_next_start(fake: Fake, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    async with loaded(tmp_path / "models", kept) as one:
        before = one.choice
    fake.seconds, fake.opened = 10 * FIRST_SECONDS, []
    async with loaded(tmp_path / "models", kept) as one:
        assert one.choice == before
        assert one.providers == {"model": "fake"}
        assert len(fake.opened) == 1


@pytest.mark.parametrize(
    ("short", "long", "is_chosen"),
    [
        (((1.0, 1.0), (1.1, 0.8)), ((9.0, 9.0), (6.0, 6.0)), True),  # one disturbed group
        (((1.0, 1.0), (1.1, 1.1)), ((9.0, 9.0), (6.0, 6.0)), False),
        (((1.0, 1.0), (0.98, 0.9)), ((9.0, 9.0), (8.9, 8.0)), False),
    ],
)
def test_a_gain_must_be_clear_in_both_groups_and_no_batch_slower(
    short: tuple[tuple[float, float], tuple[float, float]],
    long: tuple[tuple[float, float], tuple[float, float]],
    is_chosen: bool,
) -> None:
    assert saves_enough([Pair(*short), Pair(*long)]) is is_chosen


@pytest.mark.parametrize(
    ("share", "runs"),
    [(0.5, 8), (0.9, 24), (1.1, 8), (1.5, 4)],
)
def test_what_is_clear_is_timed_no_longer(share: float, runs: int) -> None:
    first, other, now = object(), object(), 0.0
    timed = []

    def infer(sessions: Any, batch: Any) -> Any:
        nonlocal now
        timed.append(sessions)
        now += 1.0 if sessions["model"] is first else share

    compare_sessions(
        infer, ({"model": first}, {"model": other}), [[PreparedItem({})]], 100.0, lambda: now
    )
    warm_up = 3
    assert len(timed) - warm_up == 2 * runs


async def test_few_sessions_of_a_graph_are_open_together(fake: Fake, tmp_path: Path) -> None:
    fake.can_bf16, fake.pause = True, 0.2
    async with loaded(tmp_path, cores=2) as one:
        assert one.providers == {"model": "fake"}
    assert fake.most_open == 3


async def test_noisy_starts_choose_the_same(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.seconds = 0.8 * FIRST_SECONDS
    chance = random.Random(1)

    def noisy(
        self: PacedSession, feeds: Mapping[str, Feed], run: Callable = PacedSession.run
    ) -> Feeds:
        if chance.random() < 0.25:  # every third run loses the processor for a while
            until = time.thread_time() + FIRST_SECONDS
            while time.thread_time() < until:
                pass
        return run(self, feeds)

    monkeypatch.setattr(PacedSession, "run", noisy)
    for _ in range(3):
        async with loaded(tmp_path) as one:
            assert one.providers == {"model": "fake"}


async def test_what_only_fails_in_batches_gives_way_to_the_first_choice(
    fake: Fake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def varying(
        self: PacedSession, feeds: Mapping[str, Feed], run: Callable = PacedSession.run
    ) -> Feeds:
        found = run(self, feeds)
        is_fake = self.seconds != FIRST_SECONDS
        moved = np.array([0, is_fake and len(feeds["pixel_values"]) > 1], np.float32)
        return {name: array + moved for name, array in found.items()}

    monkeypatch.setattr(PacedSession, "run", varying)
    async with loaded(tmp_path) as one:
        assert one.providers == {"model": "cpu"}
        row = rows(one)["fake", "fp32", "f32"]
        assert row.verdict == "not_exact"
        assert sentence(row.reason or "")


@pytest.mark.parametrize(
    ("exactness", "shift", "verdict"),
    [(None, 0.0, "chosen"), (None, 0.05, "not_exact"), ("close", 0.2, "not_exact")],
)
async def test_without_goldens_made_up_items_are_compared(
    fake: Fake, tmp_path: Path, exactness: str | None, shift: float, verdict: str
) -> None:
    make_repository(tmp_path)
    (tmp_path / "lamps/1/goldens.json").unlink()
    fake.shift = shift
    async with loaded(tmp_path, exactness=exactness) as one:
        assert rows(one)["fake", "fp32", "f32"].verdict == verdict


@pytest.mark.parametrize(
    ("sessions", "movable"),
    [
        (("tower", "tower"), ("tower",)),
        (("both", "both"), ("text", "image")),  # a graph of two lanes, which was cut
        (("text", "image"), ("text", "image")),
    ],
)
def test_each_session_that_may_move_has_a_lane(
    sessions: tuple[str, str], movable: tuple[str, ...]
) -> None:
    lanes = [Lane("text", [8], [sessions[0]]), Lane("image", [9], [sessions[1]])]
    found = {name: lane.name for lane, name in units(lanes, movable)}
    assert found == {name: name if name in ("text", "image") else "text" for name in movable}


_YOLO = np.stack([np.linspace(0, 640, 99), np.linspace(0, 1, 99)]).astype(np.float32)
"""A coordinate in pixels and a score, at 99 places."""


@pytest.mark.parametrize("turn", [np.asarray, np.transpose], ids=["channels first", "last"])
@pytest.mark.parametrize(
    ("pixels", "score", "wanted"), [(3.2, 0.0, 0.005), (0.0, 0.3, 0.3), (0.064, 0.0001, 0.0001)]
)
def test_a_score_among_pixels_is_compared_with_scores(
    turn: Callable[[Any], Any], pixels: float, score: float, wanted: float
) -> None:
    found = _YOLO + np.array([[pixels], [score]], np.float32)
    difference = relative_difference({"output": turn(found)}, {"output": turn(_YOLO)})
    assert difference == pytest.approx(wanted, rel=1e-2)


@pytest.mark.parametrize(
    ("found", "original", "wanted"),
    [
        (np.float32([0.0, 2.0]), np.float32([0.01, 2.0]), 0.005),
        (np.float32(1.0), np.float32(2.0), 0.5),
        (np.float32([[1e-7, 0.0], [1.0, 2.0]]), np.float32([[0.0, 0.0], [1.0, 2.0]]), 1e-4),
        (np.float32([]), np.float32([]), 0.0),
        (np.float32([np.nan]), np.float32([1.0]), np.inf),
    ],
    ids=["a vector", "a number", "almost nothing", "nothing", "no number"],
)
def test_the_difference_of_tensors(found: Any, original: Any, wanted: float) -> None:
    difference = relative_difference({"a": np.asarray(found)}, {"a": np.asarray(original)})
    assert difference == pytest.approx(wanted, rel=1e-2)
