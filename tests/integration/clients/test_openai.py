"""OpenAI's client: what the snippet does not show."""

import base64
from pathlib import Path

import httpx
import pytest

from tests.integration.clients.environment import run
from tests.integration.real_service import STARTERS, RealService

pytestmark = [pytest.mark.looptime(False)]

CLIENT = """
import openai
client = openai.OpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none", max_retries=0)

def failure(**options):
    try:
        client.embeddings.create(**options)
    except openai.APIStatusError as error:
        return [type(error).__name__, error.status_code, error.body["code"], error.body["message"]]
"""


def test_errors_arrive_as_the_clients_own(service: RealService) -> None:
    unknown, ids, empty = run(
        service,
        CLIENT,
        '[failure(model="none", input="a"), failure(model="emoji", input=[[1, 2]]), '
        'failure(model="emoji", input=["a", ""])]',
    )
    assert unknown[:3] == ["NotFoundError", 404, "model_not_found"]
    assert ids[:3] == ["BadRequestError", 400, "invalid_input"]
    assert "token ids" in ids[3]
    assert empty[:3] == ["BadRequestError", 400, "invalid_input"]
    assert empty[3].startswith("input 1:")


def test_an_image_is_embedded_as_by_the_native_route(service: RealService) -> None:
    image = Path(STARTERS / "emoji/1/goldens/9.png").read_bytes()
    uri = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    code = f'{CLIENT}\nanswer = client.embeddings.create(model="emoji", input=["cat", {uri!r}])'
    vectors = run(service, code, "[one.embedding for one in answer.data]")
    body = {"text": "cat", "image": uri}
    native = httpx.post(f"{service.url}/v1/embed", json=body, timeout=120).json()["results"]
    assert vectors == [pytest.approx(one["embedding"], abs=1e-6) for one in native]


def test_usage_counts_the_tokens_of_the_model(service: RealService) -> None:
    code = f'{CLIENT}\nanswer = client.embeddings.create(model="emoji", input=["dog", "dog face"])'
    used = run(service, code, "answer.usage.model_dump()")
    assert used["prompt_tokens"] == used["total_tokens"] > 4


def test_a_model_is_shown_and_an_unknown_one_is_not_found(service: RealService) -> None:
    code = f"""{CLIENT}
shown = client.models.retrieve("emoji")
try:
    client.models.retrieve("BAAI/bge-m3")
except openai.NotFoundError as error:
    missing = error.status_code
"""
    shown, missing = run(service, code, "[shown.model_dump(), missing]")
    assert (shown["id"], shown["object"], missing) == ("emoji", "model", 404)
    assert shown["created"] > 1_700_000_000


def test_the_async_client_is_answered_too(service: RealService) -> None:
    code = """
import asyncio, openai

async def main():
    async with openai.AsyncOpenAI(base_url="http://127.0.0.1:8000/v1", api_key="none") as client:
        asked = (client.embeddings.create(model="emoji", input=str(n)) for n in range(8))
        return [len(answer.data[0].embedding) for answer in await asyncio.gather(*asked)]
"""
    sizes = run(service, code, "asyncio.run(main())")
    assert len(sizes) == 8
    assert len(set(sizes)) == 1
