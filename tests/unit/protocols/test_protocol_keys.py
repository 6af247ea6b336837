"""Keys on the routes of protocols: what costs nothing on a model is allowed and counted too."""

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import httpx
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from service.access.access import Access
from service.access.keys_file import digest_of
from service.api import ApiContext, build_api
from service.families.family import Opened, Traits
from service.protocols import protocol_routes
from service.registry.status import ModelState, VersionStatus
from service.tasks import Task
from service.transforms.language.text import TextTokenizer
from tests.unit.api.fakes import FakeRegistry

KEYS = {
    "free": "",
    "topics": 'models = ["news-topics"]\ntasks = ["classify"]',
    "poor": "items_per_day = 4\ncharacters_per_minute = 20",
}


@pytest.fixture
async def locked(
    context: ApiContext, registry: FakeRegistry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[httpx.AsyncClient]:
    words = Tokenizer(WordLevel({"<unk>": 0, "a": 1}, "<unk>"))
    words.pre_tokenizer = Whitespace()
    traits: Traits[Any, Any] = Traits(tokenizer=TextTokenizer(words))
    for pipeline in registry.pipelines.values():
        pipeline.family = Opened(cast(Any, None), cast(Any, None), traits)
    translator = VersionStatus(
        "zh-en", 1, ModelState.READY, Task.TRANSLATE, source_languages=("zh",),
        target_languages=("en",),
    )  # fmt: skip
    monkeypatch.setattr(registry, "statuses", lambda: [translator])
    file = tmp_path / "keys.toml"
    file.write_text(
        "\n".join(
            f'[keys.{name}]\nsha256 = "{digest_of(name.encode()).hex()}"\n{rest}'
            for name, rest in KEYS.items()
        )
    )
    api = build_api(replace(context, access=Access(file)), None, protocol_routes())
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        yield client


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


UNCOMPUTED: Mapping[str, Mapping[str, Any]] = {
    "/tokenize": {"inputs": "a a"},
    "/tei/emoji/tokenize": {"inputs": ["a a"]},
    "/decode": {"ids": [1, 1]},
    "/tei/emoji/decode": {"ids": [[1]]},
    "/detect": {"q": "hello"},
    "/translate": {"q": "hello", "source": "en", "target": "en"},
}


@pytest.mark.parametrize("path", UNCOMPUTED)
async def test_a_key_may_do_only_what_its_entry_says(locked: httpx.AsyncClient, path: str) -> None:
    body = UNCOMPUTED[path]
    assert (await locked.post(path, json=body, headers=bearer("free"))).status_code == 200
    response = await locked.post(path, json=body, headers=bearer("topics"))
    assert response.status_code == 403, response.text
    assert "the key 'topics' may not" in response.json()["error"]


async def test_a_key_of_one_model_may_tokenize_for_it(locked: httpx.AsyncClient) -> None:
    body = {"inputs": "a b"}
    response = await locked.post("/tei/news-topics/tokenize", json=body, headers=bearer("topics"))
    assert [token["id"] for token in response.json()[0]] == [1, 0]


@pytest.mark.parametrize("path", UNCOMPUTED)
async def test_what_no_model_computes_is_counted(locked: httpx.AsyncClient, path: str) -> None:
    for _ in range(4 if "decode" in path else 1):
        response = await locked.post(path, json=UNCOMPUTED[path], headers=bearer("poor"))
        assert response.status_code == 200
    assert '"items-day";r=4' not in response.headers["ratelimit"]
    if "decode" in path:
        response = await locked.post(path, json=UNCOMPUTED[path], headers=bearer("poor"))
        assert response.status_code == 403
    else:
        assert '"characters-minute";r=20' not in response.headers["ratelimit"]


@pytest.mark.parametrize("path", ["/hf/emoji/health", "/v2/models/emoji/ready"])
async def test_a_probe_of_a_model_needs_no_key(locked: httpx.AsyncClient, path: str) -> None:
    assert (await locked.get(path)).status_code == 200
    assert (await locked.get(path.replace("emoji", "none"))).status_code == 404


@pytest.mark.parametrize("path", ["/v1/vision/custom/list", "/detect"])
async def test_a_key_may_be_in_the_query(locked: httpx.AsyncClient, path: str) -> None:
    for key, status in (("free", 200), ("wrong", 401)):
        response = await locked.post(path, params={"api_key": key, "q": "hello"})
        assert response.status_code == status
