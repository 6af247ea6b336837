"""Workflows, generation and videos on the page: what they draw, and when they are offered."""

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.browser import Visit, visiting
from tests.integration.page.asking import DESKTOP, SAMPLES, ask, asked_directly
from tests.integration.real_service import RealService

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Route

pytestmark = [pytest.mark.looptime(False), pytest.mark.browser]

COLOURS = """(canvas) => new Set(
  canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data).size"""


def test_a_workflow_shows_its_steps_and_its_crops(visit: Visit, service: RealService) -> None:
    answer = ask(visit, "workflows")
    photo = (SAMPLES / "cards_four.jpg").read_bytes()
    [expected] = asked_directly(service, "run/cards", files={"image": photo})
    [name] = expected["steps"]
    found = expected["steps"][name]["objects"]
    assert answer.locator("h3").all_inner_texts() == [f"{name}, by cards"]
    assert answer.locator(".box").count() == len(found) >= 4
    rows = answer.locator(".crops li")
    assert rows.locator("div > span").all_inner_texts() == [each["label"] for each in found]
    crops = rows.locator("canvas").all()
    assert len(crops) == len(found)
    assert all(crop.evaluate(COLOURS) > 20 for crop in crops)
    for row, each in zip(rows.all(), found, strict=True):
        [step] = each["steps"]
        first = f"{each['steps'][step]['embedding'][0]:.3f}"
        line = row.locator("p").inner_text()
        assert line.startswith(f"{step}: ")
        assert f" dimensions: {first}, " in line


def test_a_workflow_of_texts_shows_what_each_step_wrote(visit: Visit, service: RealService) -> None:
    visit.page.locator("#tab-workflows").click()
    visit.page.locator("#workflows select").select_option("zh-news")
    answer = ask(visit, "workflows")
    text = visit.page.locator("#workflows textarea").input_value()
    [expected] = asked_directly(service, "run/zh-news", json={"text": text})
    translated, classified = expected["steps"].values()
    assert answer.locator(".translation").inner_text() == translated["translation"]
    labels = [each["label"] for each in classified["labels"]]
    assert answer.locator(".scores li > span").all_inner_texts() == labels


def test_generation_is_offered_only_by_a_service_that_can(
    browser: "Browser", service: RealService
) -> None:
    with visiting(browser, f"{service.url}/", DESKTOP) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        assert visit.page.locator("#tab-embed").is_visible()
        assert visit.page.locator("#tab-generate").is_hidden()

        def with_generator(route: "Route") -> None:
            models = httpx.get(f"{service.url}/v1/models").json()["models"]
            generator = {**models[0], "model": "writer", "task": "generate", "modalities": ["text"]}
            route.fulfill(json={"models": [*models, generator]})

        visit.page.goto(f"{service.url}/#generate")
        visit.page.reload()
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        assert visit.page.locator("#generate").is_hidden()
        assert visit.page.locator("#classify").is_visible()

        visit.page.route("**/v1/models", with_generator)
        visit.page.reload()
        visit.page.locator("#generate").wait_for()
        assert visit.page.locator("#classify").is_hidden()
        assert visit.page.locator("#generate .primary").is_enabled()
        curl = visit.page.locator("#generate .curl code").inner_text()
        assert "/v1/generate" in curl
        assert '"model":"writer"' in curl


def test_the_sample_video_is_drawn_over_and_counted(visit: Visit) -> None:
    answer = ask(visit, "video")
    counts = answer.locator(".by").inner_text().partition(" by cards: ")[2]
    assert set(counts.split(", ")) == {"1 × king", "1 × nine"}
    answer.locator(".box").nth(1).wait_for()
    labels = {words.partition(" #")[0] for words in answer.locator(".box").all_inner_texts()}
    assert labels == {"king", "nine"}
    assert set(answer.locator(".timeline .row span").all_inner_texts()) >= labels
