"""A real headless Chromium for tests, which notes whatever a page must not do."""

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

_NOTE_VIOLATIONS = """
  window.violations = [];
  addEventListener("securitypolicyviolation",
    (event) => violations.push(`${event.violatedDirective} ${event.blockedURI}`));
"""
_REFUSED = "Failed to load resource"
"""How Chromium's console begins to tell that a request was answered by an error."""


_PATIENCE_MS = 20_000


@dataclass
class Visit:
    """One page that is open, and what it did that a good page does not do."""

    page: "Page"
    origin: str
    complaints: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """Requests answered by an error: the tests that ask for none look that there are none."""

    def note_console(self, message: "ConsoleMessage") -> None:
        """Record the messages of the console."""
        if message.text.startswith(_REFUSED):
            self.refusals.append(message.text)
        elif message.type in ("error", "warning"):
            self.complaints.append(f"console: {message.text}")

    def note_request(self, request: "Request") -> None:
        """Note a request to anybody else."""
        url = urlsplit(request.url)
        if url.scheme not in ("blob", "data") and f"{url.scheme}://{url.netloc}" != self.origin:
            self.complaints.append(f"request to {request.url}")

    def end(self) -> None:
        """Fail if the page did anything that it must not."""
        violations = self.page.evaluate("() => window.violations")
        assert [*self.complaints, *violations] == []


def chromium_program() -> str:
    """Return the path of Chromium; without it or playwright, skip, or fail in CI."""
    program = shutil.which("chromium")
    missing = "chromium is not installed" if program is None else ""
    try:
        import playwright  # noqa: F401, PLC0415
    except ImportError:
        missing = "playwright is not installed"
    if program and not missing:
        return program
    if os.environ.get("CI"):
        pytest.fail(f"{missing}, and CI must not skip its tests")
    pytest.skip(missing)


@contextmanager
def running_browser() -> "Iterator[Browser]":
    """Run Chromium until the block ends."""
    program = chromium_program()
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    # Chromium's sandbox does not work as root; as anybody else it stays.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=options)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: "Browser", url: str, settings: Mapping[str, Any]) -> Iterator[Visit]:
    """Open a page in a context of its own; when the block ends, nothing may have gone wrong."""
    context = browser.new_context(**settings)
    context.add_init_script(_NOTE_VIOLATIONS)
    context.set_default_timeout(_PATIENCE_MS)
    page = context.new_page()
    parts = urlsplit(url)
    visit = Visit(page, f"{parts.scheme}://{parts.netloc}")
    page.on("console", visit.note_console)
    page.on("pageerror", lambda error: visit.complaints.append(f"error: {error}"))
    page.on("request", visit.note_request)
    page.goto(url)
    yield visit
    visit.end()
    context.close()
