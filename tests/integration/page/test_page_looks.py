"""The page is accessible: in every look, by keyboard, on a phone, without motion."""

from typing import TYPE_CHECKING

import pytest

from tests.browser import Visit, visiting
from tests.integration.page.asking import DESKTOP, TASKS, ask, assert_fits, screenshot
from tests.integration.real_service import RealService

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.looptime(False), pytest.mark.browser]

PHONE = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
LOOKS = {"light": DESKTOP, "dark": {**DESKTOP, "color_scheme": "dark"}, "phone": PHONE}

TOO_FAINT = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const faint = [];
  for (const element of document.body.querySelectorAll("*")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const style = getComputedStyle(element);
    if (!own || !element.checkVisibility() || element.closest(":disabled")) continue;
    const [a, b] = [light(parse(style.color)), light(behind(element))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < (parseFloat(style.fontSize) >= 24 ? 3 : 4.5))
      faint.push(`${element.tagName} ${element.textContent.slice(0, 30)} ${ratio.toFixed(2)}`);
  }
  return faint;
}"""

COVERED = """() => [...document.querySelectorAll(".box > span")].filter((label) => {
  const { left, right, top, bottom } = label.getBoundingClientRect();
  const points = [left + 3, (left + right) / 2, right - 3].flatMap(
    (x) => [[x, top + 2], [x, bottom - 2]]);
  return points.some(([x, y]) => document.elementFromPoint(x, y) !== label);
}).map((label) => label.textContent)"""


@pytest.mark.parametrize("look", LOOKS)
def test_every_tab_can_be_read_and_fits_in_every_look(
    browser: "Browser", service: RealService, look: str
) -> None:
    with visiting(browser, f"{service.url}/", LOOKS[look]) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        visit.page.screenshot(path=screenshot(f"{look}-first"), full_page=True)
        for task in TASKS:
            ask(visit, task)
            assert_fits(visit)
            assert visit.page.evaluate(TOO_FAINT) == []
            visit.page.screenshot(path=screenshot(f"{look}-{task}"), full_page=True)
        assert visit.refusals == []


@pytest.mark.parametrize("look", ["light", "phone"])
def test_no_box_is_drawn_across_the_label_of_another(
    browser: "Browser", service: RealService, look: str
) -> None:
    with visiting(browser, f"{service.url}/", LOOKS[look]) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        stage = ask(visit, "detect").locator(".stage")
        stage.scroll_into_view_if_needed()
        assert stage.locator(".box").count() == 4
        assert visit.page.evaluate(COVERED) == []


def test_tabs_are_moved_between_by_keys_and_named_in_the_address(visit: Visit) -> None:
    keyboard, page = visit.page.keyboard, visit.page
    page.locator("#tab-classify").focus()
    for key, task in (
        ("ArrowRight", "translate"),
        ("End", "workflows"),
        ("ArrowRight", "classify"),
        ("ArrowLeft", "workflows"),
        ("Home", "classify"),
        ("ArrowRight", "translate"),
    ):
        keyboard.press(key)
        assert page.evaluate("() => document.activeElement.id") == f"tab-{task}"
        assert page.locator("[role=tab][aria-selected=true]").get_attribute("id") == f"tab-{task}"
        assert [each.get_attribute("id") for each in page.get_by_role("tabpanel").all()] == [task]
        assert page.url.endswith(f"#{task}")
    page.reload()
    assert page.locator("#translate").is_visible()


def test_all_of_a_task_can_be_done_with_the_keyboard_and_the_focus_is_seen(visit: Visit) -> None:
    keyboard, page = visit.page.keyboard, visit.page
    page.locator("#tab-classify").focus()
    seen = []
    for _ in range(9):
        keyboard.press("Tab")
        seen.append(page.evaluate("() => document.activeElement.tagName"))
        outlined = """() => { const at = document.activeElement;
          const shown = at.type === "radio" ? at.nextElementSibling : at;
          return getComputedStyle(shown).outlineStyle; }"""
        assert page.evaluate(outlined) == "solid", seen
    assert {"SECTION", "INPUT", "TEXTAREA", "BUTTON"} <= set(seen)
    page.locator("#classify textarea").focus()
    keyboard.press("Control+Enter")
    page.locator("#classify .scores").wait_for()


def test_nothing_moves_for_who_asked_for_less_motion(
    browser: "Browser", service: RealService
) -> None:
    settings = {**DESKTOP, "reduced_motion": "reduce"}
    with visiting(browser, f"{service.url}/", settings) as visit:
        ask(visit, "classify")
        moving = visit.page.evaluate(
            """() => [...document.querySelectorAll("*")].filter((each) =>
                 getComputedStyle(each).transitionProperty !== "none" &&
                 getComputedStyle(each).transitionDuration !== "0s").length"""
        )
        assert moving == 0
