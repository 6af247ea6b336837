"""The limit of pixels decoded at the same time."""

import threading
import time
from collections.abc import Callable

import pytest

from service.errors import InvalidInputError
from service.transforms.vision import image as image_module
from service.transforms.vision.footprint import PixelBudget
from service.transforms.vision.image import decode_image, decoding
from tests.unit.transforms.images import JPEG, PNG, encoded, noise

PIXELS = 64 * 48


class Holder(threading.Thread):
    """Holds pixels until released."""

    def __init__(self, budget: PixelBudget, pixels: int) -> None:
        super().__init__(daemon=True)
        self._budget, self._pixels = budget, pixels
        self.holds, self._let_go = threading.Event(), threading.Event()
        self.start()

    def run(self) -> None:
        with self._budget.held(self._pixels):
            self.holds.set()
            self._let_go.wait(60)

    def let_go(self) -> None:
        self._let_go.set()
        self.join(60)


def until(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + 60
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    return condition()


def test_who_finds_room_waits_for_nobody_and_who_finds_none_waits() -> None:
    budget = PixelBudget(10)
    first, second = Holder(budget, 6), Holder(budget, 4)
    assert first.holds.wait(60)
    assert second.holds.wait(60)
    third = Holder(budget, 1)
    assert not third.holds.wait(0.1)
    second.let_go()
    assert third.holds.wait(60)
    first.let_go()
    third.let_go()


def test_a_large_image_is_not_overtaken_for_ever_by_small_ones() -> None:
    budget = PixelBudget(10)
    small = Holder(budget, 4)
    assert small.holds.wait(60)
    large = Holder(budget, 9)
    assert until(budget._turn.locked)
    later = Holder(budget, 1)
    assert not later.holds.wait(0.1)
    small.let_go()
    assert large.holds.wait(60)
    assert later.holds.wait(60)
    large.let_go()
    later.let_go()


def test_what_is_over_the_budget_passes_alone() -> None:
    budget = PixelBudget(10)
    small = Holder(budget, 1)
    assert small.holds.wait(60)
    huge = Holder(budget, 11)
    assert not huge.holds.wait(0.1)
    small.let_go()
    assert huge.holds.wait(60)
    huge.let_go()


@pytest.fixture
def budget(monkeypatch: pytest.MonkeyPatch) -> PixelBudget:
    """The one of the service, in which there is room for one of the files and a half."""
    budget = PixelBudget(PIXELS * 3 // 2)
    monkeypatch.setattr(image_module, "DECODING", budget)
    return budget


def test_an_image_counts_until_nobody_needs_its_pixels(budget: PixelBudget) -> None:
    with decoding(PNG):
        assert not Holder(budget, PIXELS // 2 + 1).holds.wait(0.1)
    assert until(lambda: budget._held == PIXELS // 2 + 1)


def test_a_webp_counts_twice(budget: PixelBudget) -> None:
    with decoding(encoded(noise(), "WEBP")):
        assert budget._held == 2 * PIXELS


@pytest.mark.parametrize("data", [PNG[:-200], JPEG[:300]])
def test_a_damaged_image_leaves_its_room_to_others(budget: PixelBudget, data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        decode_image(data)
    assert budget._held == 0
