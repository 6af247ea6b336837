import base64
import gzip
import zlib
from typing import Any

import httpx
import pytest

from service.api.content import as_image, as_text
from service.errors import InvalidInputError, LimitExceededError, UnsupportedMediaTypeError
from service.requests.admission import ApiLimits
from service.tasks import ClassifyItem, ComposedTask, EmbedItem, Image, Task, Text
from tests.sentences import sentence
from tests.unit.api.fakes import FakeRegistry
from tests.unit.api.images import PNG

LIMITS = ApiLimits(max_characters=5)
BASE64 = base64.b64encode(PNG).decode()


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(PNG, id="bytes"),
        pytest.param(BASE64, id="base64"),
        pytest.param(f"data:image/png;base64,{BASE64}", id="data URI"),
        pytest.param(f"DATA:Image/PNG;name=a;Base64,{BASE64}", id="data URI in odd spelling"),
    ],
)
def test_an_image_is_read_from(value: object) -> None:
    assert as_image(value, ApiLimits()) == Image(PNG)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(3, id="number"),
        pytest.param(None, id="null"),
        pytest.param({"base64": BASE64}, id="object"),
        pytest.param("", id="empty"),
        pytest.param(b"", id="no bytes"),
        pytest.param("data:image/png;base64,", id="empty data URI"),
        pytest.param("data:image/png;base64", id="data URI without a comma"),
        pytest.param(f"data:image/png,{BASE64}", id="data URI not in base64"),
        pytest.param("A", id="no whole byte"),
        pytest.param("/_==", id="two alphabets"),
        pytest.param(BASE64 + "====", id="excess padding"),
        pytest.param("图像", id="not ASCII"),
        pytest.param("http://example.org/a.png", id="URL"),
    ],
)
def test_an_image_is_not_read_from(value: object) -> None:
    with pytest.raises(InvalidInputError):
        as_image(value, ApiLimits())


@pytest.mark.parametrize("kind", ["text/html", "application/pdf", ""])
def test_a_data_uri_of_another_kind_is_unsupported(kind: str) -> None:
    with pytest.raises(UnsupportedMediaTypeError):
        as_image(f"data:{kind};base64,{BASE64}", ApiLimits())


def test_a_text_may_be_as_long_as_the_limit_in_characters() -> None:
    assert as_text("五个汉字。", LIMITS).text == "五个汉字。"
    with pytest.raises(LimitExceededError):
        as_text("六个汉字呢。", LIMITS)


@pytest.mark.parametrize("value", [3, None, "", "a\0b", ["a"], b"a"])
def test_a_text_is_not_read_from(value: object) -> None:
    with pytest.raises(InvalidInputError):
        as_text(value, LIMITS)


async def post(client: httpx.AsyncClient, **request: Any) -> httpx.Response:
    return await client.post("/v1/classify", **request)


async def test_an_image_comes_the_same_in_every_way(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    raw = {"headers": {"content-type": "image/png"}, "content": PNG, "params": {"top_k": "1"}}
    ways: list[dict[str, Any]] = [
        {"json": {"image": BASE64, "top_k": 1}},
        {"json": {"image": [f"data:image/png;base64,{BASE64}"], "top_k": 1}},
        {"files": {"image": ("a.png", PNG)}, "data": {"top_k": "1"}},
        {"data": {"image": BASE64, "top_k": "1"}, "files": {"version": (None, "1")}},
        raw,
    ]
    for way in ways:
        response = await post(client, **way)
        assert response.status_code == 200, response.text
        assert len(response.json()["results"][0]["labels"]) == 1
    asked = registry.pipelines[Task.CLASSIFY, "image"].asked
    assert [item for item, _ in asked] == [ClassifyItem(Image(PNG), 1)] * len(ways)


async def test_texts_and_pairs_of_texts_may_be_mixed(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    pair = {"text": "it rains", "text_pair": "it is wet"}
    asked = registry.pipelines[Task.CLASSIFY, "text"].asked
    for text, items in (
        (pair, [ClassifyItem(Text("it rains"), 1, "it is wet")]),
        (
            ["it rains", pair],
            [ClassifyItem(Text("it rains"), 1), ClassifyItem(Text("it rains"), 1, "it is wet")],
        ),
    ):
        asked.clear()
        response = await post(client, json={"text": text, "top_k": 1})
        assert response.status_code == 200, response.text
        assert [item for item, _ in asked] == items


@pytest.mark.parametrize(
    "pair",
    [
        {"text": "a"},
        {"text": "a", "text_pair": "b", "top_k": 1},
        {"text": "a", "text_pair": ""},
        {"text": "a", "text_pair": 3},
        {"text": "a", "text_pair": "b\0"},
        {"text": "a", "text_pair": "b" * 1001},
        {"text": ["a"], "text_pair": "b"},
    ],
)
async def test_a_wrong_pair_is_refused_alone(
    client: httpx.AsyncClient, pair: dict[str, Any]
) -> None:
    response = await post(client, json={"text": ["a", pair]})
    (fault,) = response.json()["errors"]
    assert fault["index"] == 1
    assert sentence(fault["detail"])
    assert response.json()["results"][0]["labels"]


async def test_a_key_given_twice_in_a_pair_is_refused(client: httpx.AsyncClient) -> None:
    body = b'{"text": {"text": "a", "text_pair": "b", "text_pair": "c"}}'
    headers = {"content-type": "application/json"}
    response = await post(client, content=body, headers=headers)
    assert response.status_code == 400
    assert sentence(response.json()["detail"])


async def test_as_many_pairs_as_items_are_allowed(
    client: httpx.AsyncClient, limits: ApiLimits
) -> None:
    pair = {"text": "[a, {", "text_pair": "], }"}
    response = await post(client, json={"text": [pair] * limits.max_items})
    assert len(response.json()["results"]) == limits.max_items


async def test_only_classify_reads_pairs(client: httpx.AsyncClient) -> None:
    pair = {"text": "a", "text_pair": "b"}
    for task in ("translate", "embed"):
        response = await client.post(f"/v1/{task}", json={"text": pair})
        assert response.status_code == 422
        assert "the text must be a string" in response.text


async def test_a_prompt_is_named_for_texts_only(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    body = {"text": ["a", "b"], "image": BASE64, "prompt_name": "query"}
    response = await client.post("/v1/embed", json=body)
    assert response.status_code == 200, response.text
    asked = [item for item, _ in registry.pipelines[Task.EMBED, "text"].asked]
    assert asked == [
        EmbedItem(Text("a"), "query"),
        EmbedItem(Text("b"), "query"),
        EmbedItem(Image(PNG)),
    ]
    del body["text"]
    response = await client.post("/v1/embed", json=body)
    assert response.status_code == 422
    assert sentence(response.json()["detail"])


async def test_several_files_are_several_items_in_order(client: httpx.AsyncClient) -> None:
    files = [("image", (f"{i}.png", PNG)) for i in range(3)]
    response = await post(client, files=files)
    assert len(response.json()["results"]) == 3


@pytest.mark.parametrize(
    "content_type",
    ["application/json; charset=utf-8", 'Application/JSON; Charset="UTF-8"', "application/json ;"],
)
async def test_json_may_say_it_is_utf_8(client: httpx.AsyncClient, content_type: str) -> None:
    response = await post(client, content=b'{"text":"a"}', headers={"content-type": content_type})
    assert response.status_code == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "unsupported_media_type"),
        ({"content-type": "text/plain"}, "unsupported_media_type"),
        ({"content-type": "application/x-www-form-urlencoded"}, "unsupported_media_type"),
        ({"content-type": "application/json; charset=gbk"}, "unsupported_media_type"),
        (
            {"content-type": "application/json", "content-encoding": "br"},
            "unsupported_media_type",
        ),
    ],
)
async def test_other_kinds_of_bodies_are_refused(
    client: httpx.AsyncClient, headers: dict[str, str], code: str
) -> None:
    response = await post(client, content=b'{"text":"a"}', headers=headers)
    assert (response.status_code, response.json()["code"]) == (415, code)


@pytest.mark.parametrize("coding", ["gzip", "deflate", "identity"])
async def test_a_body_may_be_compressed(client: httpx.AsyncClient, coding: str) -> None:
    plain = b'{"text":"a"}'
    packed = {"gzip": gzip.compress(plain), "deflate": zlib.compress(plain)}.get(coding, plain)
    headers = {"content-type": "application/json", "content-encoding": coding}
    response = await post(client, content=packed, headers=headers)
    assert response.status_code == 200, response.text


async def test_what_a_body_inflates_to_is_bounded(client: httpx.AsyncClient) -> None:
    headers = {"content-type": "application/json", "content-encoding": "gzip"}
    bomb = gzip.compress(b" " * 10_000_000)
    response = await post(client, content=bomb, headers=headers)
    assert (response.status_code, response.json()["code"]) == (413, "limit_exceeded")
    response = await post(client, content=bomb[:-9], headers=headers)
    assert response.status_code in (400, 413)


async def test_parameters_in_the_query_are_refused_rather_than_ignored(
    client: httpx.AsyncClient,
) -> None:
    response = await post(client, json={"text": "a"}, params={"top_k": "1"})
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")


async def test_a_task_without_images_takes_no_forms_or_images(client: httpx.AsyncClient) -> None:
    forms = await client.post("/v1/translate", files={"text": ("a.txt", b"a")})
    image = await client.post("/v1/translate", content=PNG, headers={"content-type": "image/png"})
    assert (forms.status_code, image.status_code) == (415, 415)


async def test_a_vector_is_asked_for_in_fewer_dimensions_and_bytes(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    asked = {"text": "a", "dimensions": 2, "normalize": False}
    whole = (await client.post("/v1/embed", json=asked)).json()["results"][0]
    item, _ = registry.pipelines[Task.EMBED, "text"].asked[0]
    assert item == EmbedItem(Text("a"), dimensions=2, normalize=False)
    response = await client.post("/v1/embed", json={**asked, "output": "int8"})
    small = response.json()["results"][0]
    assert [number * small["scale"] for number in small["embedding"]] == pytest.approx(
        whole["embedding"], abs=small["scale"]
    )
    assert all(isinstance(number, int) for number in small["embedding"])
    response = await client.post("/v1/embed", json={**asked, "output": "binary"})
    assert response.json()["results"][0].keys() == {"embedding"}


async def test_labels_are_given_in_json_forms_and_queries(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    given: dict[str, Any] = {"labels": ["cat", "dog"]}
    files = [("image", ("a.png", PNG)), *(("labels", (None, name)) for name in given["labels"])]
    bodies: list[dict[str, Any]] = [
        {"json": {"image": BASE64, **given}},
        {"json": {"text": "a", **given, "hypothesis_template": "a {}", "multi_label": False}},
        {"files": files},
        {"content": PNG, "headers": {"content-type": "image/png"}, "params": given},
    ]
    for body in bodies:
        response = await client.post("/v1/classify", **body)
        assert response.status_code == 200, response.text
        assert response.json()["model"] == "emoji"
        (result,) = response.json()["results"]
        assert {label["label"] for label in result["labels"]} == {"cat", "dog"}
    asked = [item for item, _ in registry.pipelines[ComposedTask.ZERO_SHOT, "text"].asked]
    assert EmbedItem(Text("a cat")) in asked


@pytest.mark.parametrize(
    "body",
    [
        {"labels": ["a"]},
        {"labels": ["a", ""]},
        {"labels": ["a", "b", "a"]},
        {"labels": ["a", " "]},
        {"labels": ["a", 1]},
        {"labels": ["a", "b\0"]},
        {"labels": [str(n) for n in range(1001)]},
        {"labels": ["a", "b"], "hypothesis_template": "c"},
        {"hypothesis_template": "c {}"},
        {"multi_label": True},
        {"labels": ["a", "b"], "multi_label": True},
    ],
)
async def test_labels_that_cannot_be_are_named(
    client: httpx.AsyncClient, body: dict[str, Any]
) -> None:
    response = await client.post("/v1/classify", json={"text": "a", **body})
    assert response.status_code in (413, 422)
    assert sentence(response.json()["detail"])


async def test_a_thousand_labels_are_read(client: httpx.AsyncClient) -> None:
    labels = [f"label {n}" for n in range(1000)]
    response = await client.post("/v1/classify", json={"text": "a", "labels": labels})
    assert len(response.json()["results"][0]["labels"]) == 1000
