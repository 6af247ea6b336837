"""The page shows an error as a sentence, and the next request is answered."""

from pathlib import Path

import pytest

from tests.browser import Visit
from tests.integration.page.asking import (
    SAMPLES,
    ask,
    choose,
    choose_file,
    photo,
    refused,
    screenshot,
)

pytestmark = [pytest.mark.looptime(False), pytest.mark.browser]


def test_a_damaged_image_is_refused_in_a_sentence_and_the_next_is_answered(visit: Visit) -> None:
    visit.page.locator("#tab-detect").click()
    choose(visit, "detect", "broken.jpg", (SAMPLES / "cards.jpg").read_bytes()[:4000])
    assert refused(visit, "detect").startswith("The image is damaged or cut short")
    visit.page.screenshot(path=screenshot("refused"))
    choose(visit, "detect", "notes.txt", b"no picture at all", "text/plain")
    assert refused(visit, "detect").startswith("This is no image of a kind read here")
    assert len(visit.refusals) == 2
    visit.page.get_by_role("button", name="A king on an ace").click()
    assert ask(visit, "detect").locator(".box").count() >= 1


def test_a_text_that_is_too_long_is_refused_in_a_sentence(visit: Visit) -> None:
    visit.page.locator("#classify textarea").fill("long " * 5000)
    sentence = refused(visit, "classify")
    assert sentence == "The text has 25000 characters; at most 20000 are read."
    assert visit.page.locator("#classify .spent").is_hidden()


def test_an_empty_text_cannot_be_asked(visit: Visit) -> None:
    visit.page.locator("#classify textarea").fill("  ")
    assert visit.page.locator("#classify .primary").is_disabled()


def test_a_service_that_does_not_answer_is_told_in_a_sentence(visit: Visit) -> None:
    visit.page.context.set_offline(True)
    assert refused(visit, "classify") == "The service does not answer; is it still running?"
    visit.page.context.set_offline(False)
    assert ask(visit, "classify").locator(".scores").is_visible()


def test_a_file_over_the_limit_is_refused_in_a_sentence(visit: Visit, tmp_path: Path) -> None:
    visit.page.locator("#tab-detect").click()
    huge = photo(336, 448) + bytes(17 * 1024 * 1024)
    choose_file(visit, "detect", tmp_path / "huge.jpg", huge)
    assert refused(visit, "detect").startswith("The body is over the limit of 16777216 bytes")
