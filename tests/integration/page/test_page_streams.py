"""Live streams on the page: an administrator starts, watches and deletes one."""

import httpx
import pytest

from tests.browser import Visit
from tests.integration.page.asking import CLIP, assert_fits, screenshot
from tests.integration.real_service import TOKEN, RealService

pytestmark = [pytest.mark.looptime(False), pytest.mark.browser]


def test_an_administrator_starts_watches_and_deletes_a_stream(
    visit: Visit, service: RealService
) -> None:
    panel = visit.page.locator("#streams")
    panel.locator("summary").click()
    token = panel.get_by_label("Administrator's token")
    token.fill("wrong")
    panel.get_by_role("button", name="Use this token").click()
    panel.locator("[data-said]:not(:empty)").wait_for()
    assert panel.locator("form.start").is_hidden()
    token.fill(TOKEN)
    panel.get_by_role("button", name="Use this token").click()
    panel.get_by_text("No stream runs.").wait_for()
    assert panel.locator("[data-said]").inner_text() == ""

    panel.get_by_label("Address").fill("file:///elsewhere.mp4")
    panel.get_by_role("button", name="Start").click()
    panel.locator("[data-said]", has_text="streams.sources").wait_for()

    panel.get_by_label("Address").fill(f"file://{CLIP}")
    panel.get_by_label("Frames per second").fill("5")
    panel.get_by_role("button", name="Start").click()
    for label in ("king #", "nine #"):
        panel.locator(".box", has_text=label).wait_for()
    assert panel.locator("[data-watched] .hint").first.inner_text().startswith("Second ")
    assert_fits(visit)
    visit.page.screenshot(path=screenshot("streams"), full_page=True)
    assert str(CLIP) in panel.locator("[data-list] strong").inner_text()

    panel.get_by_role("button", name="Delete").click()
    panel.get_by_text("The stream has ended.").wait_for()
    panel.get_by_text("No stream runs.").wait_for()
    known = httpx.get(f"{service.url}/v1/streams", headers={"authorization": f"Bearer {TOKEN}"})
    assert known.json() == {"streams": []}
    assert TOKEN not in visit.page.content()


def test_the_steps_of_a_workflow_are_shown(visit: Visit) -> None:
    panel = visit.page.locator("#streams")
    panel.locator("summary").click()
    panel.get_by_label("Administrator's token").fill(TOKEN)
    panel.get_by_role("button", name="Use this token").click()
    panel.get_by_label("Address").fill(f"file://{CLIP}")
    panel.get_by_label("Task").select_option("workflow")
    panel.get_by_label("Workflow").fill("cards")
    panel.get_by_role("button", name="Start").click()
    panel.locator(".box", has_text="king #").wait_for()
    panel.locator("[data-watched] p.hint", has_text="vector: ").first.wait_for()
    panel.get_by_role("button", name="Delete").click()
    panel.get_by_text("No stream runs.").wait_for()
