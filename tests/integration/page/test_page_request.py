"""What the page tells of a request: the curl line, where the time went, and the cache."""

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.browser import Visit, visiting
from tests.integration.page.asking import DESKTOP, SAMPLES, TASKS, ask
from tests.integration.real_service import RealService

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

pytestmark = [pytest.mark.looptime(False), pytest.mark.browser]

AS_THE_PAGE_WRITES = """(panel, text) => JSON.stringify(JSON.parse(text), (name, value) =>
  name === "embedding" ? [...value.slice(0, 4), `… ${value.length} numbers`] : value, 2)"""


@pytest.mark.parametrize("task", TASKS)
def test_a_repeat_comes_from_the_cache_and_the_time_adds_up(visit: Visit, task: str) -> None:
    ask(visit, task)
    ask(visit, task)
    panel = visit.page.locator(f"#{task}")
    panel.locator("[data-cache=hit]").wait_for()
    assert panel.locator(".badge").inner_text() == "From the cache"
    steps = panel.locator(".legend b").all_inner_texts()
    total = panel.locator("[data-total]").inner_text()
    assert len(steps) == 6
    assert sum(map(in_ms, steps)) == pytest.approx(in_ms(total), abs=0.2)
    assert panel.locator(".bar").get_attribute("aria-label")
    widths = [each.bounding_box() for each in panel.locator(".bar span").all()]
    whole = panel.locator(".bar").bounding_box()
    assert whole
    assert sum(each["width"] for each in widths if each) == pytest.approx(whole["width"], abs=12)


def in_ms(text: str) -> float:
    return float(text.split(maxsplit=1)[0])


@pytest.mark.parametrize("task", TASKS)
def test_the_curl_line_gives_the_answer_that_is_shown(visit: Visit, task: str) -> None:
    ask(visit, task)
    panel = visit.page.locator(f"#{task}")
    if task == "detect":  # the page asks for more than it shows
        panel.get_by_label("Least score").fill("0.05")
    assert run_in_shell(panel) == panel.locator("details code").text_content()


def run_in_shell(panel: "Locator") -> str:
    """Run the curl line as somebody who pasted it; return the answer as the page writes it."""
    line = panel.locator(".curl code").text_content() or ""
    command = ["bash", "-c", line]
    done = subprocess.run(command, capture_output=True, check=True, timeout=120)
    return str(panel.evaluate(AS_THE_PAGE_WRITES, done.stdout.decode()))


def test_quotes_and_odd_file_names_reach_the_shell_unharmed(visit: Visit, tmp_path: Path) -> None:
    visit.page.locator("#classify-text").fill('It\'s "$HOME" `id` \\ and 漢字 !\n-- ok')
    ask(visit, "classify")
    panel = visit.page.locator("#classify")
    assert run_in_shell(panel) == panel.locator("details code").text_content()

    name = tmp_path / 'it\'s; a "photo" \\ of $5 ,.jpg'
    shutil.copy(SAMPLES / "cards.jpg", name)
    visit.page.locator("#tab-detect").click()
    visit.page.locator("#detect input[type=file]").set_input_files(name)
    visit.page.get_by_label("Least score").fill("0.05")
    ask(visit, "detect")
    line = visit.page.locator("#detect .curl code").text_content() or ""
    command = ["bash", "-c", line]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=120)
    assert b'"objects":[{' in done.stdout


def test_the_curl_line_is_copied(browser: "Browser", service: RealService) -> None:
    settings = {**DESKTOP, "permissions": ["clipboard-read", "clipboard-write"]}
    with visiting(browser, f"{service.url}/#translate", settings) as visit:
        panel = visit.page.locator("#translate")
        panel.get_by_role("button", name="Copy").click()
        panel.get_by_role("button", name="Copied").wait_for()
        copied = visit.page.evaluate("() => navigator.clipboard.readText()")
        assert copied == panel.locator(".curl code").text_content()
