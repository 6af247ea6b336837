"""Items of one request: at once, each for itself, and nothing lost if some fail."""

import asyncio
import re
from typing import Any

import httpx
import numpy as np
import pytest

from service.cache.responses import CacheMode
from service.tasks import (
    Alternative,
    ClassifyItem,
    EmbedItem,
    FinishReason,
    Image,
    KeptTerm,
    Task,
    Text,
    TranslateItem,
    Translation,
)
from tests.sentences import sentence
from tests.unit.api.fakes import FakeRegistry
from tests.unit.api.images import PNG


async def classify(client: httpx.AsyncClient, body: Any, **headers: str) -> httpx.Response:
    return await client.post("/v1/classify", json=body, headers=headers)


async def test_one_item_gives_one_result(client: httpx.AsyncClient) -> None:
    response = await classify(client, {"text": "a"})
    assert response.status_code == 200
    assert response.json() == {
        "model": "news-topics",
        "version": 1,
        "results": [
            {"labels": [{"label": "business", "score": 0.75}, {"label": "health", "score": 0.25}]}
        ],
    }


async def test_results_come_in_the_order_of_the_items(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/translate", json={"text": ["一", "二", "三"]})
    translations = [result["translation"] for result in response.json()["results"]]
    assert translations == ["[一]", "[二]", "[三]"]


async def test_every_parameter_of_a_translation_arrives(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    body = {
        "text": "一",
        "source": "zh",
        "target": "en",
        "num_beams": 2,
        "length_penalty": 1,
        "max_new_tokens": 7,
    }
    assert (await client.post("/v1/translate", json=body)).status_code == 200
    asked = registry.pipelines[Task.TRANSLATE, "text"].asked
    assert asked[0][0] == TranslateItem("一", "zh", "en", 2, 1.0, 7)


async def test_terms_limits_and_alternatives_of_a_translation_arrive(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    body = {
        "text": "一",
        "max_length": 7,
        "alternatives": 3,
        "glossary": {"张伟": "Zhang Wei", "b": "c"},
        "protect": ["urls", "numbers"],
    }
    response = await client.post("/v1/translate", json=body)
    asked = registry.pipelines[Task.TRANSLATE, "text"].asked
    assert asked[0][0] == TranslateItem(
        "一",
        max_new_tokens=7,
        alternatives=3,
        glossary=(("张伟", "Zhang Wei"), ("b", "c")),
        protect=("urls", "numbers"),
    )
    assert response.json()["results"] == [
        {
            "translation": "[一]",
            "source": "zh",
            "target": "en",
            "truncated": False,
            "finish_reason": "stop",
        }
    ]


async def test_alternatives_and_terms_are_told_if_there_are_any(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Translation(
        "a b",
        "zh",
        "en",
        True,
        FinishReason.REPETITION,
        (
            Alternative("a b", -0.5, FinishReason.REPETITION),
            Alternative("c", None, FinishReason.LENGTH),
        ),
        (KeptTerm("甲", "a", True), KeptTerm("乙", "x", False)),
    )
    monkeypatch.setattr("tests.unit.api.fakes._answer", lambda item: told)
    (result,) = (await client.post("/v1/translate", json={"text": "甲乙"})).json()["results"]
    assert result["finish_reason"] == "repetition"
    assert result["alternatives"] == [
        {"translation": "a b", "score": -0.5, "finish_reason": "repetition"},
        {"translation": "c", "score": None, "finish_reason": "length"},
    ]
    assert result["glossary"] == [
        {"source": "甲", "target": "a", "kept": True},
        {"source": "乙", "target": "x", "kept": False},
    ]


@pytest.mark.parametrize(
    "options",
    [
        {"max_length": 3, "max_new_tokens": 3},
        {"max_length": 0},
        {"alternatives": 9},
        {"glossary": {" ": "x"}},
        {"glossary": {"x" * 201: "y"}},
        {"glossary": {str(n): "y" for n in range(101)}},
        {"protect": ["phones"]},
    ],
)
async def test_options_of_a_translation_that_make_no_sense_are_refused(
    client: httpx.AsyncClient, options: dict[str, object]
) -> None:
    response = await client.post("/v1/translate", json={"text": "一", **options})
    assert response.status_code == 422
    assert sentence(response.json()["detail"])


async def test_detections_are_told_in_pixels(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/v1/detect", content=PNG, headers={"content-type": "image/png"}, params={"iou": "0.5"}
    )
    assert response.json()["results"] == [
        {
            "width": 6,
            "height": 4,
            "objects": [{"label": "ace", "score": 0.9, "box": [1.0, 2.0, 3.0, 4.5]}],
        }
    ]


async def test_embeddings_come_texts_first_then_images(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    response = await client.post(
        "/v1/embed", files={"image": ("a.png", PNG)}, data={"text": ["a", "b"]}
    )
    body = response.json()
    assert body["dimensions"] == 4
    vectors = np.array([result["embedding"] for result in body["results"]])
    assert vectors.shape == (3, 4)
    np.testing.assert_array_equal(vectors, 0.5)
    asked = [item for item, _ in registry.pipelines[Task.EMBED, "text"].asked]
    assert asked == [EmbedItem(Text("a")), EmbedItem(Text("b")), EmbedItem(Image(PNG))]


async def test_items_of_one_request_run_at_the_same_time(
    client: httpx.AsyncClient, looptime: Any
) -> None:
    response = await classify(
        client, {"text": ["wait", "wait", "wait"]}, **{"x-request-timeout-ms": "2000"}
    )
    assert response.status_code == 504
    assert looptime == pytest.approx(2, abs=0.01)


async def test_the_callers_wishes_reach_the_pipeline(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    headers = {"x-request-priority": "7", "cache-control": "no-cache"}
    await classify(client, {"text": "a"}, **headers, **{"x-request-timeout-ms": "1500"})
    [(item, options)] = registry.pipelines[Task.CLASSIFY, "text"].asked
    assert item == ClassifyItem(Text("a"))
    assert (options.priority, options.cache) == (7, CacheMode.REFRESH)
    assert options.deadline == pytest.approx(1.5, abs=0.01)


async def test_a_failed_item_loses_nothing_of_the_others(client: httpx.AsyncClient) -> None:
    response = await client.post("/v1/translate", json={"text": ["一", "inference", "", 5, "二"]})
    body = response.json()
    assert response.status_code == body["status"] == 500
    assert response.headers["content-type"] == "application/problem+json"
    assert body["code"] == "inference_failed"
    assert body["errors"] == [
        {"index": 1, "code": "inference_failed", "detail": "the model failed"},
        {"index": 2, "code": "invalid_input", "detail": "the text is empty"},
        {"index": 3, "code": "invalid_input", "detail": "the text must be a string"},
    ]
    results = [result and result["translation"] for result in body["results"]]
    assert results == ["[一]", None, None, None, "[二]"]
    assert body["model"] == "zh-en"


async def test_the_first_of_the_worst_errors_speaks_for_the_request(
    client: httpx.AsyncClient,
) -> None:
    response = await classify(client, {"text": ["", "overloaded", "busy"]})
    assert (response.status_code, response.json()["code"]) == (429, "overloaded")
    assert response.headers["retry-after"] == "7"
    assert "results" not in response.json()


async def test_a_request_of_one_faulty_item_names_it_too(client: httpx.AsyncClient) -> None:
    response = await classify(client, {"text": "overloaded"})
    assert response.json()["errors"][0]["index"] == 0
    assert response.headers["retry-after"] == "2"


async def test_a_bug_behind_one_item_tells_nothing_of_itself(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    response = await classify(client, {"text": ["a", "bug"]}, **{"x-request-id": "find-me"})
    assert (response.status_code, response.json()["code"]) == (500, "internal_error")
    assert "secret" not in response.text
    [record] = caplog.records
    assert record.__dict__["request_id"] == "find-me"
    assert record.exc_info is not None


@pytest.mark.parametrize("texts", [["memory"], ["a", "memory"]])
async def test_a_request_without_memory_is_refused_for_now(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, texts: list[str]
) -> None:
    response = await classify(client, {"text": texts})
    assert (response.status_code, response.json()["code"]) == (503, "device_memory")
    assert response.headers["retry-after"] == "1"
    [record] = caplog.records
    assert record.exc_info is None


async def test_a_route_without_memory_is_refused_for_now(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def parse(*args: object) -> None:
        raise MemoryError("of 7 TB at 0xdead")

    monkeypatch.setattr("service.api.content.parse_json", parse)
    response = await classify(client, {"text": "a"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["code"] == "device_memory"
    assert "0xdead" not in response.text
    [record] = caplog.records
    assert record.exc_info is None


async def test_only_one_deadline_is_missed(client: httpx.AsyncClient) -> None:
    response = await classify(client, {"text": ["a", "wait"]}, **{"x-request-timeout-ms": "50"})
    assert (response.status_code, response.json()["code"]) == (504, "deadline_exceeded")
    assert response.json()["results"][0] is not None


@pytest.mark.parametrize(
    ("known", "asked", "outcome"),
    [
        ([], ["a"], "miss"),
        (["a"], ["a"], "hit"),
        (["a", "b"], ["a", "b"], "hit"),
        (["a"], ["a", "b"], "miss"),
        (["a"], ["a", "shared"], "shared"),
        ([], ["shared"], "shared"),
        ([], ["shared", "a"], "miss"),
    ],
)
async def test_x_cache_says_where_answers_came_from(
    client: httpx.AsyncClient, known: list[str], asked: list[str], outcome: str
) -> None:
    if known:
        await classify(client, {"text": known})
    response = await classify(client, {"text": asked})
    assert response.headers["x-cache"] == outcome


async def test_x_cache_says_when_the_cache_was_not_asked(client: httpx.AsyncClient) -> None:
    response = await classify(client, {"text": ["a", "b"]}, **{"cache-control": "no-store"})
    assert response.headers["x-cache"] == "bypass"


async def test_server_timing_tells_every_step(client: httpx.AsyncClient) -> None:
    response = await classify(client, {"text": ["a", "b"]})
    timing = response.headers["server-timing"]
    steps = dict(re.findall(r"(\w+);dur=([0-9.]+)", timing))
    assert list(steps) == ["cache", "preprocess", "queue", "compute", "postprocess", "total"]
    assert [float(value) for value in list(steps.values())[:5]] == [1, 2, 3, 4, 5]
    assert float(steps["total"]) > 0


async def test_text_and_image_of_different_models_are_not_mixed(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    registry.pipelines[Task.EMBED, "image"] = registry.pipelines[Task.DETECT, "image"]
    response = await client.post("/v1/embed", files={"image": ("a.png", PNG)}, data={"text": "a"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert sentence(response.json()["detail"])


async def test_a_cancelled_request_cancels_all_its_items(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    request = asyncio.create_task(classify(client, {"text": ["a", "hang"]}))
    pipeline = registry.pipelines[Task.CLASSIFY, "text"]
    await pipeline.started.wait()
    request.cancel()
    await asyncio.gather(request, return_exceptions=True)
    assert pipeline.cancelled.is_set()
