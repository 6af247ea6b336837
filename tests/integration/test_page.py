"""The page at `/` in a real Chromium, in front of the real service: every answer is looked at."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.browser import Visit, running_browser, visiting
from tests.integration.real_service import ROOT, STARTERS, RealService, real_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

pytestmark = [pytest.mark.looptime(False), pytest.mark.timeout(240), pytest.mark.browser]

SCREENSHOTS = ROOT / "build" / "page"
SAMPLES = ROOT / "service" / "api" / "samples"
TASKS = ("classify", "translate", "detect", "embed")
DESKTOP = {"viewport": {"width": 1200, "height": 900}}
PHONE = {
    "viewport": {"width": 360, "height": 740},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}
LOOKS = {"light": DESKTOP, "dark": {**DESKTOP, "color_scheme": "dark"}, "phone": PHONE}

Open = Callable[..., Visit]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    with real_service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> "Iterator[Browser]":
    with running_browser() as running:
        yield running


@pytest.fixture
def visit(browser: "Browser", service: RealService) -> Iterator[Visit]:
    with visiting(browser, f"{service.url}/", DESKTOP) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        yield visit


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
    panel.get_by_role("alert").wait_for()
    return panel.get_by_role("alert").locator("p").first.inner_text()


def choose(visit: Visit, task: str, name: str, content: bytes, kind: str = "image/jpeg") -> None:
    chosen = {"name": name, "mimeType": kind, "buffer": content}
    visit.page.locator(f"#{task} input[type=file]").set_input_files([chosen])  # type: ignore[list-item]


def asked_directly(service: RealService, path: str, **request: Any) -> Any:
    response = httpx.post(f"{service.url}/v1/{path}", timeout=30, **request)
    assert response.status_code == 200, response.text
    return response.json()["results"]


def test_a_headline_is_classified_with_one_click(visit: Visit, service: RealService) -> None:
    answer = ask(visit, "classify")
    [expected] = asked_directly(
        service, "classify", json={"text": "Stocks fall as oil prices slide"}
    )
    assert answer.locator("li > span").all_inner_texts() == [
        each["label"] for each in expected["labels"]
    ]
    best = expected["labels"][0]["score"]
    assert answer.locator("li > b").first.inner_text() == f"{100 * best:.1f} %"
    bar, track = (answer.locator(each).first.bounding_box() for each in (".share i", ".share"))
    assert bar
    assert track
    assert bar["width"] / track["width"] == pytest.approx(best, abs=0.02)


def test_the_sample_digit_is_classified(visit: Visit) -> None:
    visit.page.get_by_role("radio", name="Image").check(force=True)
    answer = ask(visit, "classify")
    assert answer.locator("li > span").first.inner_text() == "7"


def test_a_digit_that_is_drawn_is_classified_when_the_pen_is_lifted(visit: Visit) -> None:
    visit.page.get_by_role("radio", name="Draw a digit").check(force=True)
    assert visit.page.locator("#classify .primary").is_disabled()
    pad = visit.page.locator("canvas").bounding_box()
    assert pad
    mouse = visit.page.mouse
    corners = [(0.3, 0.2), (0.7, 0.2), (0.45, 0.8)]
    points = [(pad["x"] + x * pad["width"], pad["y"] + y * pad["height"]) for x, y in corners]
    mouse.move(*points[0])
    mouse.down()
    for point in points[1:]:
        mouse.move(*point, steps=8)
    mouse.up()
    first = visit.page.locator("#classify .scores li > span").first
    first.wait_for()
    assert first.inner_text() == "7"
    visit.page.get_by_role("button", name="Clear the pad").click()
    assert visit.page.locator("#classify .primary").is_disabled()


def test_a_sentence_is_translated_with_one_click(visit: Visit, service: RealService) -> None:
    answer = ask(visit, "translate")
    [expected] = asked_directly(service, "translate", json={"text": "汤姆昨天没有去学校。"})
    assert answer.locator(".translation").inner_text() == expected["translation"]
    assert answer.locator(".by").inner_text().startswith("English by zh-en in ")
    assert visit.page.locator("#translate textarea").get_attribute("lang") == "zh"


def test_cards_are_detected_and_drawn_where_they_are(visit: Visit, service: RealService) -> None:
    answer = ask(visit, "detect")
    photo = (SAMPLES / "cards_four.jpg").read_bytes()
    [expected] = asked_directly(service, "detect", files={"image": photo}, data={"threshold": 0.25})
    assert len(expected["objects"]) >= 4
    assert_drawn(answer, expected)


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


def test_the_slider_shows_what_the_service_answers_with_that_threshold(
    visit: Visit, service: RealService
) -> None:
    visit.page.locator("#tab-detect").click()
    visit.page.get_by_role("button", name="Four cards in a fan").click()
    answer = ask(visit, "detect")
    photo = (SAMPLES / "cards_hand.jpg").read_bytes()
    counts = []
    for threshold in ("0.05", "0.4", "0.6", "0.95"):
        visit.page.get_by_label("Least score").fill(threshold)
        request = {"files": {"image": photo}, "data": {"threshold": threshold}}
        [expected] = asked_directly(service, "detect", **request)
        if expected["objects"]:
            assert_drawn(answer, expected)
        counts.append(answer.locator(".box").count())
        assert counts[-1] == len(expected["objects"])
        assert f"threshold={threshold}" in visit.page.locator("#detect .curl code").inner_text()
    assert counts[0] > counts[2] > counts[3] == 0


@pytest.mark.parametrize("phrase", ["rocket", "音乐"])
def test_the_drawings_nearest_to_a_phrase_come_first(
    visit: Visit, service: RealService, phrase: str
) -> None:
    visit.page.locator("#tab-embed").click()
    visit.page.get_by_label("Phrase, in English or Chinese").fill(phrase)
    answer = ask(visit, "embed")
    sources = [each.get_attribute("src") or "" for each in answer.locator("img").all()]
    nearness = near_to(service, phrase, [Path(source).name for source in sources])
    assert len(sources) == 67
    assert (np.diff(nearness) <= 1e-6).all()
    assert answer.locator(".best span").all_inner_texts() == [f"{n:.2f}" for n in nearness[:3]]


def near_to(service: RealService, phrase: str, names: list[str]) -> "np.ndarray[Any, Any]":
    """Return the product of the phrase's vector and each drawing's, asked without the page."""
    [query] = asked_directly(service, "embed", json={"text": phrase})
    vectors = []
    for at in range(0, len(names), 32):
        images = [
            ("image", (SAMPLES / "emoji" / name).read_bytes()) for name in names[at : at + 32]
        ]
        vectors += [each["embedding"] for each in asked_directly(service, "embed", files=images)]
    return np.array(vectors) @ np.array(query["embedding"])


def test_the_names_nearest_to_a_drawing_come_first(visit: Visit) -> None:
    visit.page.locator("#tab-embed").click()
    visit.page.get_by_role("radio", name="A drawing").check(force=True)
    answer = ask(visit, "embed")
    found = answer.locator("li > span").all_inner_texts()
    assert len(found) == 8
    assert {"owl", "猫头鹰"} & set(found[:2])


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


AS_THE_PAGE_WRITES = """(panel, text) => JSON.stringify(JSON.parse(text), (name, value) =>
  name === "embedding" ? [...value.slice(0, 4), `… ${value.length} numbers`] : value, 2)"""


def run_in_shell(panel: "Locator") -> str:
    """Run the curl line as somebody who pasted it; return the answer as the page writes it."""
    line = panel.locator(".curl code").text_content() or ""
    command = ["bash", "-c", line]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    return str(panel.evaluate(AS_THE_PAGE_WRITES, done.stdout.decode()))


def test_quotes_and_odd_file_names_reach_the_shell_unharmed(visit: Visit, tmp_path: Path) -> None:
    visit.page.get_by_label("Text", exact=True).last.fill('It\'s "$HOME" `id` \\ and 漢字 !\n-- ok')
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
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, check=True, timeout=30)
    assert b'"objects":[{' in done.stdout


def test_the_curl_line_is_copied(browser: "Browser", service: RealService) -> None:
    settings = {**DESKTOP, "permissions": ["clipboard-read", "clipboard-write"]}
    with visiting(browser, f"{service.url}/#translate", settings) as visit:
        panel = visit.page.locator("#translate")
        panel.get_by_role("button", name="Copy").click()
        panel.get_by_role("button", name="Copied").wait_for()
        copied = visit.page.evaluate("() => navigator.clipboard.readText()")
        assert copied == panel.locator(".curl code").text_content()


def test_a_damaged_image_is_refused_in_a_sentence_and_the_next_is_answered(visit: Visit) -> None:
    visit.page.locator("#tab-detect").click()
    choose(visit, "detect", "broken.jpg", (SAMPLES / "cards.jpg").read_bytes()[:4000])
    assert refused(visit, "detect").startswith("The image is damaged or cut short")
    visit.page.screenshot(path=screenshot("refused"))
    choose(visit, "detect", "notes.txt", b"no picture at all", "text/plain")
    assert refused(visit, "detect").startswith("This is no image of a kind read here")
    assert len(visit.refusals) == 2
    visit.page.get_by_role("button", name="A king on an ace").click()
    assert ask(visit, "detect").locator(".box").count() >= 1


def test_a_text_that_is_too_long_is_refused_in_a_sentence(visit: Visit) -> None:
    visit.page.locator("#classify textarea").fill("long " * 5000)
    sentence = refused(visit, "classify")
    assert sentence == "The text has 25000 characters; at most 20000 are read."
    assert visit.page.locator("#classify .spent").is_hidden()


def test_an_empty_text_cannot_be_asked(visit: Visit) -> None:
    visit.page.locator("#classify textarea").fill("  ")
    assert visit.page.locator("#classify .primary").is_disabled()


def test_a_service_that_does_not_answer_is_told_in_a_sentence(visit: Visit) -> None:
    visit.page.context.set_offline(True)
    assert refused(visit, "classify") == "The service does not answer; is it still running?"
    visit.page.context.set_offline(False)
    assert ask(visit, "classify").locator(".scores").is_visible()


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


def test_a_large_photo_is_answered_and_its_boxes_fit(visit: Visit, service: RealService) -> None:
    content = photo(3000, 4000)
    assert len(content) > 1_000_000
    visit.page.locator("#tab-detect").click()
    choose(visit, "detect", "large.jpg", content)
    answer = ask(visit, "detect")
    [expected] = asked_directly(
        service, "detect", files={"image": content}, data={"threshold": 0.25}
    )
    assert (expected["width"], expected["height"]) == (3000, 4000)
    assert expected["objects"]
    assert_drawn(answer, expected)
    assert_fits(visit)


def test_a_file_over_the_limit_is_refused_in_a_sentence(visit: Visit) -> None:
    visit.page.locator("#tab-detect").click()
    choose(visit, "detect", "huge.jpg", photo(336, 448) + bytes(17 * 1024 * 1024))
    assert refused(visit, "detect").startswith("The body is over the limit of 16777216 bytes")


def test_a_file_can_be_dropped(visit: Visit) -> None:
    visit.page.locator("#tab-detect").click()
    content = list((SAMPLES / "cards_hand.jpg").read_bytes())
    transfer = visit.page.evaluate_handle(
        """(content) => { const transfer = new DataTransfer();
             const options = {type: "image/jpeg"};
             transfer.items.add(new File([new Uint8Array(content)], "dropped.jpg", options));
             return transfer; }""",
        content,
    )
    drop = visit.page.locator("#detect .drop")
    drop.dispatch_event("dragover", {"dataTransfer": transfer})
    drop.dispatch_event("drop", {"dataTransfer": transfer})
    assert drop.locator(".name").inner_text() == "dropped.jpg"
    assert ask(visit, "detect").locator(".box").count() >= 4


def screenshot(name: str) -> Path:
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    return SCREENSHOTS / f"{name}.png"


def assert_fits(visit: Visit) -> None:
    wider = visit.page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
    assert wider <= 0


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


def test_tabs_are_moved_between_by_keys_and_named_in_the_address(visit: Visit) -> None:
    keyboard, page = visit.page.keyboard, visit.page
    page.locator("#tab-classify").focus()
    for key, task in (
        ("ArrowRight", "translate"),
        ("End", "embed"),
        ("ArrowRight", "classify"),
        ("ArrowLeft", "embed"),
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


def test_only_the_last_of_two_quick_requests_is_shown(visit: Visit) -> None:
    page = visit.page
    held: list[Any] = []
    page.route(
        "**/v1/classify", lambda route: held.append(route) if not held else route.continue_()
    )
    page.locator("#classify .primary").click()
    page.get_by_role("button", name="Singer wins").click()
    page.locator("#classify .primary").click()
    page.locator("#classify .scores").wait_for()
    assert page.locator("#classify .scores span").first.inner_text() == "entertainment"
    assert page.locator("#classify[aria-busy]").count() == 0
    page.unroute_all(behavior="ignoreErrors")


def test_models_are_shown_as_the_service_knows_them(visit: Visit, service: RealService) -> None:
    known = httpx.get(f"{service.url}/v1/models").json()["models"]
    shown = visit.page.locator("#models li strong").all_inner_texts()
    assert shown == sorted(each["model"] for each in known)
    assert visit.page.locator("#readiness").inner_text() == f"Ready · {len(known)} models"


@pytest.fixture(scope="module")
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


def test_where_several_models_fit_one_is_chosen(
    browser: "Browser", small_service: RealService
) -> None:
    with visiting(browser, f"{small_service.url}/", DESKTOP) as visit:
        choice = visit.page.locator("#classify select")
        choice.wait_for()
        default = choice.input_value()
        [other] = {"news-topics", "other"} - {default}
        assert ask(visit, "classify").locator(".by strong").inner_text() == default
        assert "model" not in (visit.page.locator("#classify .curl code").text_content() or "")
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
