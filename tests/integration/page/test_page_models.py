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
