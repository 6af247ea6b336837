"""LibreTranslate, the Inference API and DeepStack: clients that the snippets do not show."""

import base64
import json
from typing import Any

import httpx
import pytest

from service.api.openapi import sample
from tests.integration.clients.environment import run
from tests.integration.real_service import RealService

pytestmark = [pytest.mark.looptime(False)]

CARDS = base64.b64decode(sample("cards.jpg"))


def post(service: RealService, path: str, **request: Any) -> httpx.Response:
    return httpx.post(f"{service.url}{path}", timeout=120, **request)


def test_a_social_network_sends_lists_of_html(service: RealService) -> None:
    """Mastodon: `lib/translation_service/libre_translate`."""
    texts = [
        '<p>她在<a href="https://example.org/a?b=1&amp;c=2">图书馆</a>工作。</p>',
        "我喜欢喝茶。",
    ]
    body = {"q": texts, "source": "auto", "target": "en", "format": "html", "api_key": None}
    answer = post(service, "/translate", json=body).json()
    assert answer["translatedText"] == [
        '<p>She works at <a href="https://example.org/a?b=1&amp;c=2">the library</a>.</p>',
        "I like to drink tea.",
    ]
    assert [one["language"] for one in answer["detectedLanguage"]] == ["zh", "zh"]
    refused = post(service, "/translate", json={**body, "target": "de"})
    assert refused.status_code == 400
    assert refused.json() == {"error": "de is not supported"}


def test_a_forum_detects_and_translates_by_forms(service: RealService) -> None:
    """Discourse: form-encoded, the first detection counts."""
    text = "今天天气很好。"
    found = post(service, "/detect", data={"q": text, "api_key": "none"}).json()
    assert found[0]["language"] == "zh"
    codes = httpx.get(f"{service.url}/languages", timeout=120).json()
    assert found[0]["language"] in [one["code"] for one in codes]
    data = {"q": text, "source": "zh", "target": "en", "format": "text", "api_key": ""}
    assert post(service, "/translate", data=data).json() == {"translatedText": "It's fine today."}


def test_an_editor_asks_for_alternatives(service: RealService) -> None:
    body = {"q": "她在图书馆工作。", "source": "zh", "target": "en", "alternatives": 3}
    answer = post(service, "/translate", json=body).json()
    native = post(
        service, "/v1/translate", json={"text": body["q"], "alternatives": 4, "num_beams": 4}
    ).json()["results"][0]
    assert answer["translatedText"] == native["translation"]
    others = [one["translation"] for one in native["alternatives"][1:]]
    # Several hypotheses may read alike; an editor has no use for the second.
    expected = [one for one in dict.fromkeys(others) if one != answer["translatedText"]]
    assert answer["alternatives"] == expected
    assert expected


def test_markup_with_every_kind_of_part_survives(service: RealService) -> None:
    source = (
        "<!DOCTYPE html>\n<div class=\"a\" data-b='c'>\n  <h1>今天</h1>\n"
        '  <p>请用<code>pip install x</code>安装。<img src="y.png" alt="茶"><br/>'
        "我有&nbsp;书 &copy; 汤姆。</p>\n"
        '  <p translate="no">不要翻译。</p><pre>今天  天气\n</pre>\n'
        "  <script>if (a < b) { s = '今天'; }</script><!-- 今天 -->\n</div>"
    )
    answer = post(service, "/v1/translate", json={"text": source, "format": "html"}).json()
    translated = answer["results"][0]["translation"]
    for kept in (
        "<!DOCTYPE html>\n<div class=\"a\" data-b='c'>\n  <h1>",
        "<code>pip install x</code>",
        '<img src="y.png" alt="茶"><br/>',
        "&nbsp;",
        "&copy;",
        '<p translate="no">不要翻译。</p><pre>今天  天气\n</pre>\n',
        "<script>if (a < b) { s = '今天'; }</script><!-- 今天 -->\n</div>",
    ):
        assert kept in translated, translated
    assert "<h1>今天" not in translated


def test_a_camera_is_answered_as_by_deepstack(service: RealService) -> None:
    """Frigate: one file without a type, and it stops at the first box under its threshold."""
    answer = post(
        service,
        "/v1/vision/detection",
        files={"image": CARDS},
        data={"api_key": "none", "min_confidence": "0.2"},
    )
    assert answer.headers["content-type"] == "application/json"
    found = answer.json()
    confidences = [one["confidence"] for one in found["predictions"]]
    assert found["success"] is True
    assert confidences == sorted(confidences, reverse=True)
    assert {one["label"] for one in found["predictions"]} == {"king", "ace"}
    assert all(isinstance(one["x_min"], int) for one in found["predictions"])
    listed = post(service, "/v1/vision/custom/list")
    assert listed.json()["models"] == ["cards"]


def test_errors_reach_the_caller_of_the_hubs_client(service: RealService) -> None:
    code = """
from huggingface_hub import InferenceClient
from huggingface_hub.errors import HfHubHTTPError

cards = InferenceClient("http://127.0.0.1:8000/hf/cards", provider="hf-inference")

def failure(model, task, *arguments, **options):
    client = InferenceClient(f"http://127.0.0.1:8000/hf/{model}")
    try:
        getattr(client, task)(*arguments, **options)
    except HfHubHTTPError as error:
        return [error.response.status_code, str(error)]
"""
    unknown, refused, health = run(
        service,
        code,
        '[failure("none", "text_classification", "a"), '
        'failure("zh-en", "translation", "狗", generate_parameters={"temperature": 2.0}), '
        "cards.health_check()]",
    )
    assert unknown[0] == 404
    assert "no model" in unknown[1]
    assert refused[0] == 422
    assert "temperature" in refused[1]
    assert health is True


def test_images_of_the_hubs_client_have_no_type(service: RealService) -> None:
    code = f"""
from huggingface_hub import InferenceClient
client = InferenceClient("http://127.0.0.1:8000/hf/digits")
image = __import__("base64").b64decode({json.dumps(sample("digit.png"))})
found = client.image_classification(image)
"""
    labels = run(service, code, "[[one.label, one.score] for one in found]")
    native = post(service, "/v1/classify", json={"image": sample("digit.png")}).json()
    expected = [[one["label"], one["score"]] for one in native["results"][0]["labels"]]
    assert labels == expected
