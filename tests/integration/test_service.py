"""The whole service on the starter models, asked as a user asks."""

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.real_service import STARTERS, TOKEN, RealService, real_service
from tests.redis_server import RedisServer

pytestmark = [pytest.mark.looptime(False)]

ADMIN = {"Authorization": f"Bearer {TOKEN}"}
HEADLINE = "Stocks fall as oil prices slide"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    with real_service(tmp_path_factory.mktemp("service")) as running:
        yield running


def golden_image(model: str) -> tuple[Path, Any]:
    folder = STARTERS / model / "1"
    goldens = json.loads((folder / "goldens.json").read_text())["items"]
    golden = next(g for g in goldens if "image" in g["item"])
    return folder / golden["item"]["image"], golden["answer"]


def post(service: RealService, path: str, **request: Any) -> dict[str, Any]:
    response = httpx.post(f"{service.url}{path}", timeout=120, **request)
    assert response.status_code == 200, response.text
    return response.json()["results"][0]


def test_a_headline_is_classified(service: RealService) -> None:
    labels = post(service, "/v1/classify", json={"text": HEADLINE})["labels"]
    assert labels[0]["label"] == "business"
    assert sum(label["score"] for label in labels) == pytest.approx(1, abs=1e-4)


def test_a_handwritten_digit_is_recognised(service: RealService) -> None:
    path, answer = golden_image("digits")
    headers = {"Content-Type": "image/png"}
    result = post(service, "/v1/classify", content=path.read_bytes(), headers=headers)
    assert result["labels"][0]["label"] == answer["labels"][0]["label"]


def test_a_chinese_sentence_is_translated(service: RealService) -> None:
    result = post(service, "/v1/translate", json={"text": "我喜欢你的新房子。"})
    words = set(result["translation"].lower().strip(".").split())
    assert {"i", "like", "your", "new", "house"} <= words
    assert (result["source"], result["target"]) == ("zh", "en")


def test_playing_cards_are_found_in_a_photo(service: RealService) -> None:
    path, answer = golden_image("cards")
    result = post(service, "/v1/detect", files={"image": path.read_bytes()})
    found = {one["label"] for one in result["objects"]}
    assert found >= {one["label"] for one in answer["objects"] if one["score"] > 0.6}
    assert all(one["box"][2] <= result["width"] for one in result["objects"])


@pytest.mark.parametrize("phrase", ["dog face", "狗脸"])
def test_an_emoji_is_nearer_to_its_own_name_than_to_another(
    service: RealService, phrase: str
) -> None:
    texts = [phrase, "watermelon", "flag"]
    response = httpx.post(f"{service.url}/v1/embed", json={"text": texts}, timeout=120)
    vectors = np.array([r["embedding"] for r in response.json()["results"]])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-4)
    english = post(service, "/v1/embed", json={"text": "dog"})["embedding"]
    nearness = vectors @ np.array(english)
    assert nearness.argmax() == 0


# Vectors of tokens, sparse vectors and summaries: no starter model gives them.
NO_STARTER_ANSWERS = {"/embed_all", "/embed_sparse", "/v1/generate"}
NEEDS_A_CAMERA = {"/v1/streams"}
NEEDS_A_TOKEN_CLASSIFIER = "aggregate"
"""A field; no starter finds spans."""


def examples(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            content = operation.get("requestBody", {}).get("content", {})
            for kind, body in content.items():
                for example in body.get("examples", {}).values():
                    yield method, path, {"kind": kind, "value": example["value"]}


def test_every_json_example_of_the_documentation_answers(service: RealService) -> None:
    document = httpx.get(f"{service.url}/openapi.json").json()
    found = [e for e in examples(document) if e[2]["kind"] == "application/json"]
    asked = {path for _, path, _ in found}
    assert {"/v1/classify", "/v1/translate", "/v1/detect", "/v1/embed"} <= asked
    for _, path, example in found:
        if "{model}" in path or path in NO_STARTER_ANSWERS | NEEDS_A_CAMERA:
            continue
        if NEEDS_A_TOKEN_CLASSIFIER in example["value"]:
            continue
        url = f"{service.url}{path}".replace("{workflow}", "cards")
        response = httpx.post(url, json=example["value"], timeout=120)
        assert response.status_code == 200, (path, example, response.text)


def test_the_second_identical_request_is_a_hit(service: RealService) -> None:
    body = {"text": "Nobody has asked this before"}
    first, second = (httpx.post(f"{service.url}/v1/classify", json=body) for _ in range(2))
    assert [first.headers["x-cache"], second.headers["x-cache"]] == ["miss", "hit"]
    assert first.content == second.content


def test_alone_and_among_others_the_answer_is_the_same(service: RealService) -> None:
    texts = [HEADLINE, "Short", HEADLINE * 8, "Ebola outbreak spreads", "Beyonce wins Grammy"]
    headers = {"Cache-Control": "no-store"}
    url = f"{service.url}/v1/classify"
    together = httpx.post(url, json={"text": texts}, headers=headers).json()["results"]
    for text, among in zip(texts, together, strict=True):
        alone = httpx.post(url, json={"text": text}, headers=headers).json()["results"][0]
        scores = [{s["label"]: s["score"] for s in r["labels"]} for r in (alone, among)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-5)


def test_who_is_no_administrator_may_not_load(service: RealService) -> None:
    url = f"{service.url}/v1/models/news-topics/load"
    assert httpx.post(url, json={}).status_code == 401
    assert httpx.post(url, json={}, headers={"Authorization": "Bearer x"}).status_code == 401


async def steady(url: str, seconds: float, clients: int = 8) -> list[int]:
    """Ask without pause for a while; return every status."""
    statuses: list[int] = []
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds

    async def ask(client: httpx.AsyncClient, number: int) -> None:
        count = 0
        while loop.time() < until:
            count += 1
            body = {"text": f"{HEADLINE} {number} {count % 50}"}
            answer = await client.post(f"{url}/v1/classify", json=body)
            statuses.append(answer.status_code)

    async with httpx.AsyncClient(timeout=120) as client:
        await asyncio.gather(*(ask(client, number) for number in range(clients)))
    return statuses


async def test_reloads_and_a_corrupt_version_lose_no_request(
    service: RealService, tmp_path: Path
) -> None:
    repository = tmp_path / "repository"
    shutil.copytree(STARTERS / "news-topics", repository / "news-topics")
    with real_service(tmp_path, "--models.repository", str(repository)) as running:
        load = asyncio.create_task(steady(running.url, seconds=12))
        url = f"{running.url}/v1/models/news-topics/load"
        versions = repository / "news-topics"
        async with httpx.AsyncClient(timeout=60, headers=ADMIN) as administrator:
            for version in range(2, 8):
                shutil.copytree(versions / "1", versions / str(version))
                answer = await administrator.post(url, json={"version": version})
                assert answer.status_code == 200, answer.text
            shutil.copytree(versions / "1", versions / "8")
            (versions / "8" / "model.onnx").write_bytes(b"corrupt")
            (versions / "8" / "model_int8.onnx").write_bytes(b"corrupt")
            assert (await administrator.post(url, json={"version": 8})).status_code == 500
            shown = (await administrator.get(f"{running.url}/v1/models/news-topics")).json()
        statuses = await load
    states = {v["version"]: v["state"] for v in shown["versions"]}
    assert (states[7], states[8]) == ("ready", "failed")
    assert set(statuses) == {200}
    assert len(statuses) > 10


@pytest.mark.redis
async def test_redis_may_die_stall_and_return_under_load(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    options = ("--cache.redis-url", redis_server.url, "--models.only", "news-topics")
    with real_service(tmp_path, *options, "--cache.memory-entries", "1") as running:
        load = asyncio.create_task(steady(running.url, seconds=8))
        await asyncio.sleep(1.5)
        await asyncio.to_thread(redis_server.kill)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(redis_server.start)
        await asyncio.sleep(1)
        redis_server.stall()
        await asyncio.sleep(1.5)
        redis_server.resume()
        statuses = await load
        body = {"text": "asked after all that"}
        url = f"{running.url}/v1/classify"
        async with httpx.AsyncClient() as client:
            found = []
            for filler in ("a b c", "d e f", "g h i"):
                found.append((await client.post(url, json=body)).headers["x-cache"])
                await client.post(url, json={"text": filler})  # pushes it out of memory
                await asyncio.sleep(0.7)
    assert set(statuses) == {200}
    assert found[-1] == "hit"
