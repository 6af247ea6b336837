import logging

import httpx
import pytest

from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from tests.sentences import sentence
from tests.unit.api.conftest import TOKEN
from tests.unit.api.fakes import FakeRegistry

ADMIN = {"authorization": f"Bearer {TOKEN}"}


async def test_models_are_listed_with_everything_an_operator_wants(
    client: httpx.AsyncClient,
) -> None:
    models = (await client.get("/v1/models")).json()["models"]
    assert {model["model"] for model in models} == {
        "news-topics",
        "digits",
        "zh-en",
        "writer",
        "names",
        "splade",
        "cards",
        "emoji",
    }
    first = models[0]
    assert (first["state"], first["task"], first["precision"]) == ("ready", "classify", "int8")
    assert first["statistics"] == {"default": {"pending": 0, "mean": 0.5}}


async def test_one_model_is_shown_with_its_versions(client: httpx.AsyncClient) -> None:
    body = (await client.get("/v1/models/digits")).json()
    assert (body["model"], body["versions"][0]["version"]) == ("digits", 1)


async def test_a_model_that_is_not_there_is_not_found(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/models/nobody")
    assert (response.status_code, response.json()["code"]) == (404, "model_not_found")


async def test_the_parity_of_a_model_has_a_path_of_its_own(client: httpx.AsyncClient) -> None:
    (version,) = (await client.get("/v1/models/digits/parity")).json()["versions"]
    assert (version["version"], version["parity"]["ways"]["alone"]["flips"]) == (1, 2)
    assert "parity" not in (await client.get("/v1/models/digits")).json()["versions"][0]


@pytest.mark.parametrize("body", [b"", b"{}"])
async def test_an_administrator_loads_the_newest_version(
    client: httpx.AsyncClient, body: bytes
) -> None:
    response = await client.post("/v1/models/digits/load", content=body, headers=ADMIN)
    assert response.status_code == 200
    assert (response.json()["version"], response.json()["precision"]) == (1, "int8")


async def test_an_administrator_loads_a_certain_version(client: httpx.AsyncClient) -> None:
    response = await client.post(
        "/v1/models/digits/load", json={"version": 3, "precision": "fp32"}, headers=ADMIN
    )
    assert (response.json()["version"], response.json()["precision"]) == (3, "fp32")


async def test_an_administrator_unloads_a_model(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    response = await client.post("/v1/models/digits/unload", headers=ADMIN)
    assert (response.status_code, response.content) == (204, b"")
    assert registry.unloaded == ["digits"]


@pytest.mark.parametrize(
    ("model", "body", "status", "code"),
    [
        ("nobody", b"", 404, "model_not_found"),
        ("loading", b"", 409, "conflict"),
        ("digits", b"{", 400, "malformed_request"),
        ("digits", b'{"verzion": 1}', 422, "invalid_input"),
        ("digits", b'{"version": 0}', 422, "invalid_input"),
        ("digits", b'{"precision": ""}', 422, "invalid_input"),
    ],
)
async def test_a_load_is_refused_for_a_reason(
    client: httpx.AsyncClient, model: str, body: bytes, status: int, code: str
) -> None:
    response = await client.post(f"/v1/models/{model}/load", content=body, headers=ADMIN)
    assert (response.status_code, response.json()["code"]) == (status, code)


@pytest.mark.parametrize("action", ["load", "unload"])
@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        TOKEN,
        f"Basic {TOKEN}",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        f"Bearer  {TOKEN}",
    ],
)
async def test_nobody_else_loads_or_unloads(
    client: httpx.AsyncClient, registry: FakeRegistry, action: str, authorization: str | None
) -> None:
    headers = {} if authorization is None else {"authorization": authorization}
    response = await client.post(f"/v1/models/digits/{action}", headers=headers)
    assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
    assert response.headers["www-authenticate"].startswith("Bearer")
    assert registry.unloaded == []


@pytest.mark.parametrize("token", [None, ""])
async def test_without_a_token_nobody_is_an_administrator(token: str | None) -> None:
    api = build_api(ApiContext(FakeRegistry(), Lifecycle(), ApiLimits(), token))
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        for authorization in ("", "Bearer ", "Bearer None"):
            response = await client.post(
                "/v1/models/digits/load", headers={"authorization": authorization}
            )
            assert (response.status_code, response.json()["code"]) == (
                403,
                "administration_disabled",
            )


@pytest.mark.parametrize("precision", ["fp16", "fp8"])
async def test_a_precision_that_a_version_lacks_is_the_callers_fault(
    client: httpx.AsyncClient, precision: str
) -> None:
    response = await client.post(
        "/v1/models/digits/load", json={"precision": precision}, headers=ADMIN
    )
    assert (response.status_code, response.json()["code"]) == (422, "invalid_input")
    assert sentence(response.json()["detail"])


async def test_where_the_token_is_set_is_named_wherever_it_is_asked_for(
    client: httpx.AsyncClient, registry: FakeRegistry
) -> None:
    refused = await client.post("/v1/models/digits/load")
    assert (refused.status_code, "QUARTET_ADMIN__TOKEN" in refused.text) == (401, True)
    api = build_api(ApiContext(registry, Lifecycle()))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(api), base_url="http://quartet"
    ) as without:
        refused = await without.post("/v1/models/digits/unload")
    assert (refused.status_code, "QUARTET_ADMIN__TOKEN" in refused.text) == (403, True)


async def test_an_administrator_moves_and_removes_an_alias(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = "/v1/models/digits/aliases/prod"
    put = await client.put(path, json={"version": 2}, headers=ADMIN)
    assert put.json() == {"model": "digits", "alias": "prod", "weights": {"2": 1.0}}
    await client.put(path, json={"weights": {"1": 95, "2": 5}}, headers=ADMIN)
    shown = (await client.get("/v1/models/digits/aliases")).json()
    assert shown == {"model": "digits", "aliases": {"prod": {"1": 95, "2": 5}}}
    assert (await client.delete(path, headers=ADMIN)).status_code == 204
    lines = [record.__dict__ for record in caplog.records if record.msg == "administration"]
    assert [(one["who"], one["action"], one["from"], one["to"]) for one in lines] == [
        ("admin-token", "alias prod", "none", "2:1"),
        ("admin-token", "alias prod", "2:1", "1:95+2:5"),
        ("admin-token", "alias prod", "1:95+2:5", "none"),
    ]


@pytest.mark.parametrize(
    "body",
    [{}, {"version": 0}, {"version": 1, "weights": {"1": 1}}, {"weights": {"x": 1}}, {"alias": 1}],
)
async def test_what_is_no_alias_is_refused(client: httpx.AsyncClient, body: object) -> None:
    path = "/v1/models/digits/aliases/prod"
    assert (await client.put(path, json=body, headers=ADMIN)).status_code == 422
    assert (await client.put(path, json={"version": 1})).status_code == 401
    assert (await client.delete(path)).status_code == 401


async def test_changes_and_refusals_are_lines_of_the_log(
    client: httpx.AsyncClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await client.post("/v1/models/digits/load", headers=ADMIN)
    await client.post("/v1/models/loading/load", headers=ADMIN)
    done, refused = [r for r in caplog.records if r.msg.startswith("administration")]
    assert (done.action, done.model, done.who) == ("load", "digits", "admin-token")
    assert (refused.msg, refused.code) == ("administration refused", "conflict")
