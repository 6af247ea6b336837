"""The page knows the models that are loaded, and offers what they can do."""

from typing import TYPE_CHECKING

import httpx
import pytest

from tests.browser import Visit, visiting
from tests.integration.page.asking import DESKTOP, ask
from tests.integration.real_service import RealService

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.looptime(False), pytest.mark.browser]


def test_models_are_shown_as_the_service_knows_them(visit: Visit, service: RealService) -> None:
    known = httpx.get(f"{service.url}/v1/models").json()["models"]
    shown = visit.page.locator("#models li strong").all_inner_texts()
    assert shown == sorted(each["model"] for each in known)
    assert visit.page.locator("#readiness").inner_text() == f"Ready · {len(known)} models"


def test_where_several_models_fit_one_is_chosen(
    browser: "Browser", small_service: RealService
) -> None:
    with visiting(browser, f"{small_service.url}/", DESKTOP) as visit:
        choice = visit.page.locator("#classify select")
        choice.wait_for()
        default = choice.input_value()
        [other] = {"news-topics", "other"} - {default}
        assert ask(visit, "classify").locator(".by strong").inner_text() == default
        assert f'"model":"{default}"' in (
            visit.page.locator("#classify .curl code").text_content() or ""
        )
        choice.select_option(other)
        assert f'"model":"{other}"' in (
            visit.page.locator("#classify .curl code").text_content() or ""
        )
        visit.page.locator("#classify .primary").click()
        visit.page.locator(f"#classify .by strong:text-is('{other}')").wait_for()


def test_a_task_without_a_model_says_so(browser: "Browser", small_service: RealService) -> None:
    with visiting(browser, f"{small_service.url}/#detect", DESKTOP) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        panel = visit.page.locator("#detect")
        assert panel.locator(".missing").inner_text() == "No model for this is loaded."
        assert panel.locator(".primary").is_disabled()
        visit.page.locator("#tab-classify").click()
        assert visit.page.get_by_role("radio", name="Draw a digit").is_hidden()


def test_the_sample_set_is_embedded_under_a_low_limit_of_items(
    browser: "Browser", small_service: RealService
) -> None:
    with visiting(browser, f"{small_service.url}/", DESKTOP) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        assert ask(visit, "embed").locator("img").count() == 67
        asked = []
        visit.page.on("request", lambda request: asked.append(request.url))
        ask(visit, "embed")
        assert len([url for url in asked if url.endswith("/v1/embed")]) == 1


def test_samples_fit_models_that_are_no_starters(
    browser: "Browser", others_service: RealService
) -> None:
    with visiting(browser, f"{others_service.url}/", DESKTOP) as visit:
        page = visit.page
        page.locator("#readiness[data-state=ready]").wait_for()
        answer = ask(visit, "classify")
        assert page.locator("#classify textarea").input_value().startswith("The room was clean")
        assert answer.locator("li > span").first.inner_text().startswith("tone ")
        assert page.get_by_role("radio", name="Draw a digit").is_hidden()
        page.get_by_role("radio", name="Image").check(force=True)
        answer = ask(visit, "classify")
        assert page.locator("#classify .drop .name").inner_text() == "A bear"
        assert answer.locator("li > span").first.inner_text().startswith("shape ")
        ask(visit, "detect")
        assert page.locator("#detect .drop .name").inner_text() == "A motorcycle"
        answer = ask(visit, "embed")
        assert page.locator("#embed input[type=text]").input_value() == "How can I get a refund?"
        assert answer.locator(".by").inner_text().startswith("The nearest of 26 sentences")
        assert answer.locator(".phrases li").count() == 8
        assert answer.locator("img").count() == 0


def test_a_text_of_the_visitors_stays_when_the_model_changes(
    browser: "Browser", small_service: RealService
) -> None:
    with visiting(browser, f"{small_service.url}/", DESKTOP) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        text = visit.page.locator("#classify textarea")
        assert text.input_value() == "Stocks fall as oil prices slide"
        text.fill("my own text")
        visit.page.locator("#classify select").select_option("other")
        assert text.input_value() == "my own text"
