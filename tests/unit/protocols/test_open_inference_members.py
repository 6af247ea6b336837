"""Members of a request of the Open Inference Protocol that are null, and outputs as classes."""

from typing import Any

import httpx

from service.families.family import Opened, Traits
from tests.unit.protocols.test_open_inference import URL, plain, read


async def test_members_that_are_null_are_as_if_left_out(client: httpx.AsyncClient) -> None:
    given = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"], "parameters": None}
    asked = {"id": None, "inputs": [given], "parameters": None, "outputs": None}
    response = await client.post(URL, json=asked)
    assert response.status_code == 200, response.text
    assert read(response) == await plain(client)
    asked["outputs"] = [{"name": "label", "parameters": None}]
    assert read(await client.post(URL, json=asked)).keys() == {"label"}


async def test_classes_have_their_number_and_their_name(
    client: httpx.AsyncClient, registry: Any
) -> None:
    traits: Traits[Any, Any] = Traits(labels=("sports", "health", "business"))
    topics = registry.named("news-topics")
    topics.family = Opened(topics.family.processor, topics.family.model, traits)
    given = {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["a"]}
    asked = {"name": "score", "parameters": {"classification": 5}}
    response = await client.post(URL, json={"inputs": [given], "outputs": [asked]})
    assert read(response) == {"score": ["0.750000:2:business", "0.250000:1:health"]}
