"""The snippets of the clients, and the key that the page asks for."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from service.access.keys_file import digest_of
from tests.browser import Visit, visiting
from tests.integration.page.asking import DESKTOP, ask, refused
from tests.integration.real_service import ROOT, RealService, real_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.browser, pytest.mark.integration, pytest.mark.looptime(False)]

DOCUMENT = (ROOT / "docs" / "clients.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^### (.+)\n(?:(?!^#).*\n)*?```\w*\n([^`]*)```", DOCUMENT, re.MULTILINE)
KEY = "a-secret-of-this-test"


def test_every_documented_snippet_is_there_for_the_address_of_the_page(
    browser: "Browser", service: RealService
) -> None:
    settings = {**DESKTOP, "permissions": ["clipboard-read", "clipboard-write"]}
    with visiting(browser, f"{service.url}/", settings) as visit:
        panel = visit.page.locator("#clients")
        panel.get_by_text("Clients", exact=True).click()
        panel.locator("details").first.wait_for()
        assert panel.locator("[data-base]").inner_text() == service.url
        host = service.url.removeprefix("http://")
        expected = [(name, code.replace("127.0.0.1:8000", host)) for name, code in SNIPPETS]
        shown = list(
            zip(
                panel.locator("h4").all_text_contents(),
                panel.locator("pre code").all_text_contents(),
                strict=True,
            )
        )
        assert shown == [(name, code.rstrip()) for name, code in expected]
        assert len(shown) >= 5
        panel.locator("details summary").first.click()
        panel.get_by_role("button", name="Copy").first.click()
        panel.get_by_role("button", name="Copied").wait_for()
        assert visit.page.evaluate("() => navigator.clipboard.readText()") == shown[0][1]
        assert visit.refusals == []


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    folder = tmp_path_factory.mktemp("locked")
    file = folder / "keys.toml"
    file.write_text(
        f'[keys.page]\nsha256 = "{digest_of(KEY.encode()).hex()}"\nitems_per_minute = 2\n'
    )
    options = ("--models.only=news-topics", f"--access.keys-file={file}")
    with real_service(folder, *options) as running:
        yield running


def enter(visit: Visit, key: str) -> None:
    visit.page.get_by_label("Key", exact=True).fill(key)
    visit.page.get_by_role("button", name="Use this key").click()


def test_the_page_asks_for_a_key_only_when_one_is_needed(
    browser: "Browser", service: RealService, locked: RealService
) -> None:
    with visiting(browser, f"{service.url}/", DESKTOP) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        assert visit.page.locator("#key").is_hidden()
    with visiting(browser, f"{locked.url}/", DESKTOP) as visit:
        visit.page.locator("#key").wait_for()
        assert visit.page.locator("#readiness").inner_text() == "A key is needed"
        enter(visit, "wrong")
        visit.page.get_by_text("This key is not known.").wait_for()
        enter(visit, KEY)
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        visit.page.locator("#key").wait_for(state="hidden")
        assert "business" in ask(visit, "classify").inner_text()
        curl = visit.page.locator("#classify .curl code").inner_text()
        assert '-H "X-API-Key: $KEY"' in curl
        assert KEY not in visit.page.content()
        visit.page.reload()
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        visit.page.locator("#classify-text").fill("one more")
        ask(visit, "classify")
        visit.page.locator("#classify-text").fill("one too many")
        assert "items-minute" in refused(visit, "classify")
