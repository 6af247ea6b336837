"""Addresses with more slashes than they need, as base URLs with a slash at their end give them."""

import httpx
import pytest

BODY = {"inputs": "狗"}


@pytest.mark.parametrize(
    "path",
    [
        "/embed/",
        "//embed",
        "//tei//emoji/embed/",
        "/tei/emoji/",
        "/tei/emoji//embed",
        "/hf/emoji/",
    ],
)
async def test_a_slash_too_many_changes_nothing(client: httpx.AsyncClient, path: str) -> None:
    exact = path.replace("//", "/").rstrip("/")
    plain, response = [
        await client.post(httpx.URL(f"http://quartet{one}"), json=BODY) for one in (exact, path)
    ]
    assert (plain.status_code, response.status_code) == (200, 200)
    assert response.json() == plain.json()


async def test_a_refusal_has_the_shape_of_the_protocol(client: httpx.AsyncClient) -> None:
    response = await client.get("http://quartet//embed/")
    assert (response.status_code, response.json()["error_type"]) == (405, "Validation")
    assert (await client.get("/nothing/")).status_code == 404
    assert (await client.post("//", json=BODY)).status_code == 200
