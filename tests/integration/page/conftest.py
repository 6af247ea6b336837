"""One service and one browser for all that is tried on the page."""

import shutil
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.browser import Visit, running_browser, visiting
from tests.integration.page.asking import DESKTOP
from tests.integration.real_service import STARTERS, RealService, real_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    with real_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> "Iterator[Browser]":
    with running_browser() as running:
        yield running


@pytest.fixture
def visit(browser: "Browser", service: RealService) -> Iterator[Visit]:
    with visiting(browser, f"{service.url}/", DESKTOP) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        yield visit


@pytest.fixture(scope="package")
def small_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    """Yield a service with two classifiers of texts, an embedder, and a low limit of items."""
    folder = tmp_path_factory.mktemp("small")
    repository = folder / "repository"
    for source, name in (
        ("news-topics", "news-topics"),
        ("news-topics", "other"),
        ("emoji", "emoji"),
    ):
        shutil.copytree(STARTERS / source, repository / name)
    options = ("--models.repository", str(repository), "--limits.max-items", "10")
    with real_service(folder, *options) as running:
        yield running
