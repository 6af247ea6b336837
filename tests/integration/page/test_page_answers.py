"""Every task on the page: what is shown is what the service answers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.browser import Visit
from tests.integration.page.asking import (
    SAMPLES,
    ask,
    asked_directly,
    assert_drawn,
    assert_fits,
    choose_file,
    photo,
)
from tests.integration.real_service import RealService

pytestmark = [pytest.mark.looptime(False), pytest.mark.browser]


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


def test_labels_of_ones_own_are_chosen_among(visit: Visit, service: RealService) -> None:
    page, labels = visit.page, ["dog", "cat", "rocket"]
    page.locator("#classify-labels").fill("dog")
    assert page.locator("#classify .primary").is_disabled()  # one label is no choice
    page.locator("#classify-labels").fill(" dog,cat， rocket,dog, ")
    answer = ask(visit, "classify")
    text = page.locator("#classify-text").input_value()
    [expected] = asked_directly(service, "classify", json={"text": text, "labels": labels})
    assert answer.locator("li > span").all_inner_texts() == [
        each["label"] for each in expected["labels"]
    ]
    page.get_by_role("radio", name="Image").check(force=True)
    answer = ask(visit, "classify")
    assert answer.locator("li > span").count() == 3
    assert page.locator("#classify .curl").inner_text().count("labels=") == 3
    page.get_by_role("radio", name="Draw a digit").check(force=True)
    assert page.locator("#classify-labels").is_hidden()


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


def test_a_text_of_several_lines_is_written_down_as_it_is_translated(
    visit: Visit, service: RealService
) -> None:
    visit.page.locator("#tab-translate").click()
    visit.page.get_by_role("button", name="几行文字").click()
    text = visit.page.locator("#translate textarea").input_value()
    assert text.count("\n") >= 5
    curl = visit.page.locator("#translate .curl code").inner_text()
    assert curl.startswith("curl -sN ")
    answer = ask(visit, "translate")
    [expected] = asked_directly(service, "translate", json={"text": text, "split": "sentences"})
    written = answer.locator(".document")
    assert written.text_content() == expected["translation"]
    assert written.get_attribute("lang") == "en"
    assert answer.locator(".by").inner_text().startswith("English by zh-en in ")
    assert answer.locator("progress").count() == 0


def test_cards_are_detected_and_drawn_where_they_are(visit: Visit, service: RealService) -> None:
    answer = ask(visit, "detect")
    photo = (SAMPLES / "cards_four.jpg").read_bytes()
    [expected] = asked_directly(service, "detect", files={"image": photo}, data={"threshold": 0.25})
    assert len(expected["objects"]) >= 4
    assert_drawn(answer, expected)


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


def test_a_large_photo_is_answered_and_its_boxes_fit(
    visit: Visit, service: RealService, tmp_path: Path
) -> None:
    content = photo(3000, 4000)
    assert len(content) > 1_000_000
    visit.page.locator("#tab-detect").click()
    choose_file(visit, "detect", tmp_path / "large.jpg", content)
    answer = ask(visit, "detect")
    [expected] = asked_directly(
        service, "detect", files={"image": content}, data={"threshold": 0.25}
    )
    assert (expected["width"], expected["height"]) == (3000, 4000)
    assert expected["objects"]
    assert_drawn(answer, expected)
    assert_fits(visit)


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
