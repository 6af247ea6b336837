"""What a visitor of the page does, and what its answers are compared with."""

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.browser import Visit
from tests.integration.real_service import ROOT, RealService

if TYPE_CHECKING:
    from playwright.sync_api import Locator

SCREENSHOTS = ROOT / "build" / "page"
SAMPLES = ROOT / "service" / "page" / "samples"
CLIP = SAMPLES / "cards.mp4"
TASKS = ("classify", "translate", "detect", "embed", "workflows")
DESKTOP = {"viewport": {"width": 1200, "height": 900}}


def ask(visit: Visit, task: str) -> "Locator":
    """Open a task's tab, press its button, and return its answer when it is there."""
    visit.page.locator(f"#tab-{task}").click()
    panel = visit.page.locator(f"#{task}")
    panel.locator(".primary").click()
    panel.locator(".spent").wait_for()
    panel.locator("xpath=self::*[not(@aria-busy)]").wait_for()
    return panel.locator(".answer")


def refused(visit: Visit, task: str) -> str:
    """Press a task's button and return the sentence that it is refused with."""
    panel = visit.page.locator(f"#{task}")
    panel.locator(".primary").click()
    panel.locator("xpath=self::*[not(@aria-busy)]").wait_for()  # or it is the one before
    return panel.get_by_role("alert").locator("p").first.inner_text()


def choose(visit: Visit, task: str, name: str, content: bytes, kind: str = "image/jpeg") -> None:
    chosen = {"name": name, "mimeType": kind, "buffer": content}
    visit.page.locator(f"#{task} input[type=file]").set_input_files([chosen])  # type: ignore[list-item]


def choose_file(visit: Visit, task: str, path: Path, content: bytes) -> None:
    """Choose an image that is large: Chromium reads it itself, and it is not sent to it."""
    path.write_bytes(content)
    visit.page.locator(f"#{task} input[type=file]").set_input_files(path)


def asked_directly(service: RealService, path: str, **request: Any) -> Any:
    response = httpx.post(f"{service.url}/v1/{path}", timeout=120, **request)
    assert response.status_code == 200, response.text
    return response.json()["results"]


def assert_drawn(answer: "Locator", expected: dict[str, Any]) -> None:
    """Every object has its box over the picture, its label and its row; nothing else has."""
    listed = zip(
        answer.locator("li > span").all_inner_texts(),
        answer.locator("li > b").all_inner_texts(),
        strict=True,
    )
    assert list(listed) == [(o["label"], f"{o['score']:.2f}") for o in expected["objects"]]
    stage = answer.locator(".stage").bounding_box()
    assert stage
    scale = stage["width"] / expected["width"]
    assert stage["height"] / expected["height"] == pytest.approx(scale, rel=0.01)
    drawn = []
    for box in answer.locator(".box").all():
        place = box.bounding_box()
        assert place
        left, top = place["x"] - stage["x"], place["y"] - stage["y"]
        drawn.append([left, top, left + place["width"], top + place["height"]])
    wanted = [[scale * corner for corner in o["box"]] for o in expected["objects"]]
    assert np.array(drawn[::-1]) == pytest.approx(np.array(wanted), abs=1.5)


def assert_fits(visit: Visit) -> None:
    wider = visit.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0


def photo(width: int, height: int, quality: int = 80) -> bytes:
    """Return a large photo: the sample, enlarged, with grain."""
    grain = np.random.default_rng(0).integers(-12, 12, (height, width, 1))
    with Image.open(SAMPLES / "cards_four.jpg") as small:
        pixels = np.asarray(small.resize((width, height), Image.Resampling.BICUBIC)).astype(int)
    out = BytesIO()
    Image.fromarray((pixels + grain).clip(0, 255).astype("uint8")).save(
        out, "JPEG", quality=quality
    )
    return out.getvalue()


def screenshot(name: str) -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS / f"{name}.png"
