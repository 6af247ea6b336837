"""The Inference API: images, lists, similarity, scores; and DeepStack's forms."""

import base64
from typing import Any

import httpx
import numpy as np
import pytest

from service.api.openapi import sample

CARDS, DIGIT = (base64.b64decode(sample(name)) for name in ("cards.jpg", "digit.png"))


async def ask(client: httpx.AsyncClient, model: str, **body: Any) -> Any:
    response = await client.post(f"/hf/{model}", json=body)
    assert response.status_code == 200, response.text
    return response.json()


async def test_an_image_is_the_body_or_base64(client: httpx.AsyncClient) -> None:
    raw = await client.post("/hf/digits", content=DIGIT)
    encoded = await ask(client, "digits", inputs=sample("digit.png"), parameters={"top_k": 1})
    assert raw.json()[:1] == encoded == [{"label": "business", "score": 0.75}]
    boxes = (await client.post("/hf/cards", content=CARDS)).json()
    assert boxes == [
        {"label": "ace", "score": 0.9, "box": {"xmin": 1, "ymin": 2, "xmax": 3, "ymax": 5}}
    ]


async def test_a_text_gets_a_list_in_a_list(client: httpx.AsyncClient) -> None:
    one = await ask(client, "news-topics", inputs="a")
    assert [label["label"] for label in one[0]] == ["business", "health"]
    assert await ask(client, "news-topics", inputs=["a", "b"]) == [one[0], one[0]]
    pair = {"text": "a", "text_pair": "b"}
    assert await ask(client, "news-topics", inputs=pair) == one


async def test_scores_are_as_the_client_wants_them(
    client: httpx.AsyncClient, registry: Any
) -> None:
    options = {"function_to_apply": "softmax", "top_k": 1}
    (labels,) = await ask(client, "news-topics", inputs="a", parameters=options)
    raw = np.exp([0.75, 0.25])
    assert labels == [{"label": "business", "score": pytest.approx(raw[0] / raw.sum())}]
    item = registry.named("news-topics").asked[0][0]
    assert (item.raw_scores, item.top_k) == (True, None)
    options["function_to_apply"] = "sigmoid"
    (labels,) = await ask(client, "news-topics", inputs="a", parameters=options)
    assert labels[0]["score"] == pytest.approx(1 / (1 + np.exp(-0.75)))


async def test_sentences_are_compared(client: httpx.AsyncClient) -> None:
    inputs = {"source_sentence": "a", "sentences": ["b", "c"]}
    assert await ask(client, "emoji", inputs=inputs) == [pytest.approx(1.0)] * 2


@pytest.mark.parametrize(
    ("agent", "is_old"),
    [
        ("unknown/None; hf_hub/0.36.2; python/3.11.7", True),
        ("hf_hub/1.0.1; python/3.11.7", True),
        ("unknown/None; hf_hub/1.10.2; python/3.11.7", False),
        ("unknown/None; hf_hub/2.0.0; python/3.11.7", False),
        ("", False),
    ],
)
async def test_labels_given_for_a_text_are_as_its_client_reads_them(
    client: httpx.AsyncClient, agent: str, is_old: bool
) -> None:
    labels = {"candidate_labels": ["x", "y"]}
    body: dict[str, Any] = {"inputs": "a", "parameters": labels}
    response = await client.post("/hf/emoji", json=body, headers={"user-agent": agent})
    found = response.json()
    if is_old:
        assert sorted(found["labels"]) == ["x", "y"]
        assert sum(found["scores"]) == pytest.approx(1)
    else:
        assert sorted(one["label"] for one in found) == ["x", "y"]
        assert sum(one["score"] for one in found) == pytest.approx(1)
    body["inputs"] = sample("digit.png")
    images = await client.post("/hf/emoji", json=body, headers={"user-agent": agent})
    assert sorted(one["label"] for one in images.json()) == ["x", "y"]


async def test_options_of_vectors_are_at_the_root(client: httpx.AsyncClient, registry: Any) -> None:
    await ask(client, "emoji", inputs="a", normalize=True, dimensions=2, prompt_name="query")
    item = registry.named("emoji").asked[0][0]
    assert (item.normalize, item.dimensions, item.prompt_name) == (True, 2, "query")


async def test_an_image_is_embedded_too(client: httpx.AsyncClient, registry: Any) -> None:
    await ask(client, "emoji", inputs=sample("emoji.png"))
    await client.post("/hf/emoji", content=DIGIT)
    assert all(hasattr(item.content, "data") for item, _ in registry.named("emoji").asked)


async def test_options_of_a_translation(client: httpx.AsyncClient, registry: Any) -> None:
    options = {"src_lang": "zh", "tgt_lang": "en", "generate_parameters": {"num_beams": 2}}
    answer = await ask(client, "zh-en", inputs="狗\n脸", parameters=options)
    assert answer == [{"translation_text": "[狗]\n[脸]"}]
    assert registry.named("zh-en").asked[0][0].num_beams == 2
    options["generate_parameters"] = {"temperature": 0.7}
    response = await client.post("/hf/zh-en", json={"inputs": "狗", "parameters": options})
    assert response.status_code == 422
    assert "temperature" in response.json()["error"]


async def test_an_unknown_model_is_not_found(client: httpx.AsyncClient) -> None:
    for path in ("/hf/org/none", "/hf/none"):
        response = await client.post(path, json={"inputs": "a"})
        assert response.status_code == 404
        assert set(response.json()) == {"error"}
    assert (await client.get("/hf/none/health")).status_code == 404


async def test_a_model_is_described(client: httpx.AsyncClient) -> None:
    assert (await client.get("/hf/cards/health")).json() == {"status": "ok"}
    about = (await client.get("/hf/cards/info")).json()
    assert (about["model_id"], about["pipeline_tag"]) == ("cards", "object-detection")


async def test_a_camera_sends_a_form(client: httpx.AsyncClient) -> None:
    answer = await client.post(
        "/v1/vision/detection",
        files={"image": ("frame.jpg", CARDS, "image/jpeg")},
        data={"min_confidence": "", "api_key": "none"},
    )
    found = answer.json()
    assert found["success"] is True
    assert found["count"] == 1
    assert found["message"] == "Found ace"
    box = {"x_min": 1, "y_min": 2, "x_max": 3, "y_max": 5}
    assert found["predictions"] == [{"label": "ace", "confidence": 0.9, **box}]
    plain = await client.post("/v1/vision/detection", files={"image": CARDS})
    raw = await client.post("/v1/vision/detection", content=CARDS)
    assert plain.json()["predictions"] == raw.json()["predictions"] == found["predictions"]


async def test_the_threshold_of_cameras(client: httpx.AsyncClient, registry: Any) -> None:
    for given in ({}, {"min_confidence": "0.75"}):
        await client.post("/v1/vision/custom/cards", files={"image": CARDS}, data=given)
    asked = [item.threshold for item, _ in registry.named("cards").asked]
    assert asked == [0.4, 0.75]


async def test_a_camera_is_told_what_is_wrong(client: httpx.AsyncClient) -> None:
    missing = await client.post("/v1/vision/detection", data={"min_confidence": "0.5"})
    assert missing.status_code == 400
    assert missing.json()["success"] is False
    unknown = await client.post("/v1/vision/custom/none", files={"image": CARDS})
    assert unknown.status_code == 404
    listed = await client.post("/v1/vision/custom/list", data={"api_key": "a"})
    assert listed.json() == {"success": True, "code": 200, "models": []}


async def test_a_token_classifier_groups_tokens_by_default(
    client: httpx.AsyncClient, registry: Any
) -> None:
    span = {"entity_group": "LOC", "score": 0.75, "word": "Paris", "start": 0, "end": 5}
    assert await ask(client, "names", inputs="Paris") == [span]
    assert await ask(client, "names", inputs=["Paris", "Paris"]) == [[span], [span]]
    options = {"aggregation_strategy": "none", "stride": 2, "ignore_labels": ["X"]}
    (found,) = await ask(client, "names", inputs="Paris", parameters=options)
    assert found["entity"] == "LOC"
    item = registry.named("names").asked[-1][0]
    assert (item.aggregate, item.stride, item.ignored) == ("none", 2, ("X",))
    assert (await client.get("/hf/names/info")).json()["pipeline_tag"] == "token-classification"
