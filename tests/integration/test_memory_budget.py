"""More models than memory, as a user meets it: a real service, real models, real requests."""

import asyncio
import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.integration.real_service import STARTERS, TOKEN, RealService, real_service

pytestmark = pytest.mark.looptime(False)

MODELS = [f"m{number:02}" for number in range(12)]
PLACES = 3
QUICK = ("--models.pinned", "m11", "--models.warm_up_seconds", "0.1")
ADMIN = {"Authorization": f"Bearer {TOKEN}"}
WORKFLOW = """
input = "image"
[steps.first]
task = "classify"
model = "m00"
[steps.second]
task = "classify"
model = "m01"
input = "input"
"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    """Twelve copies of a starter with memory for three; each copy counts as its file does."""
    root = tmp_path_factory.mktemp("budget")
    repository = root / "models"
    for model in MODELS:
        shutil.copytree(STARTERS / "digits", repository / model)
    (repository / "workflows").mkdir()
    (repository / "workflows" / "twice.toml").write_text(WORKFLOW)
    size = _cost(root, repository)
    options = ["--models.memory_bytes", str(round((PLACES + 0.5) * size))]
    options += ["--models.repository", str(repository), *QUICK]
    with real_service(root, *options) as running:
        yield running


def _cost(root: Path, repository: Path) -> int:
    """Return what one of them takes, as a service with room for all of them says."""
    options = ["--models.memory_bytes", str(1 << 40), "--models.repository", str(repository)]
    with real_service(root, *options, *QUICK) as running:
        versions = httpx.get(f"{running.url}/v1/models/m11").json()["versions"]
        return int(versions[0]["memory_bytes"])


def picture() -> bytes:
    return next((STARTERS / "digits" / "1" / "goldens").iterdir()).read_bytes()


async def ask(client: httpx.AsyncClient, model: str, cached: str = "no-store") -> httpx.Response:
    headers = {"Content-Type": "image/png", "Cache-Control": cached}
    return await client.post(
        f"/v1/classify?model={model}", content=picture(), headers=headers, timeout=60
    )


def states(service: RealService) -> dict[str, dict[str, Any]]:
    listed = httpx.get(f"{service.url}/v1/models").json()["models"]
    return {one["model"]: one for one in listed}


def metric(service: RealService, name: str) -> float:
    text = httpx.get(f"{service.url}/metrics").text
    found = re.findall(rf"^{name}(?:{{.*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))


async def test_models_that_do_not_fit_together_all_answer_and_memory_stays(
    service: RealService,
) -> None:
    process = psutil.Process(service.process.pid)
    draw = random.Random(5)

    async def client(http: httpx.AsyncClient, requests: int) -> list[int]:
        return [(await ask(http, draw.choice(MODELS))).status_code for _ in range(requests)]

    async with httpx.AsyncClient(base_url=service.url) as http:
        await asyncio.gather(*(client(http, 4) for _ in range(4)))
        before = process.memory_info().rss
        found = await asyncio.gather(*(client(http, 7) for _ in range(4)))
    assert {status for statuses in found for status in statuses} == {200}
    assert metric(service, "model_evictions_total") >= len(MODELS) - PLACES
    assert metric(service, "model_memory_bytes") <= metric(service, "model_memory_budget_bytes")
    assert process.memory_info().rss < 1.05 * before
    known = states(service)
    assert known["m11"]["resident"]
    assert 1 < sum(one["resident"] for one in known.values()) <= PLACES
    assert {one["state"] for one in known.values()} <= {"ready", "on_demand", "draining"}


async def test_every_way_to_a_model_that_is_not_in_memory(service: RealService) -> None:
    away = [name for name, one in states(service).items() if not one["resident"]]
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
        assert (await http.get(f"/v2/models/{away[0]}/ready")).status_code == 200
        described = await http.get(f"/v2/models/{away[0]}")
        assert described.json()["name"] == away[0]
        ran = await http.post(
            "/v1/run/twice", content=picture(), headers={"Content-Type": "image/png"}
        )
        assert ran.status_code == 200, ran.text
        assert ran.json()["models"].keys() == {"first", "second"}
        named = await ask(http, "m05@1")
        assert named.json()["model"] == "m05"
        aliased = await http.put("/v1/models/m06/aliases/prod", json={"version": 1}, headers=ADMIN)
        assert aliased.is_success, aliased.text
        assert (await ask(http, "m06@prod")).status_code == 200


async def test_an_unloaded_model_stays_away_and_a_wrong_task_loads_nothing(
    service: RealService,
) -> None:
    async with httpx.AsyncClient(base_url=service.url, timeout=60) as http:
        before = metric(service, "model_demand_loads_total")
        assert (await http.post("/v1/models/m07/unload", headers=ADMIN)).status_code == 204
        refused = await ask(http, "m07")
        assert (refused.status_code, refused.json()["code"]) == (503, "model_not_ready")
        wrong = await http.post("/v1/classify", json={"text": "a", "model": "m08"})
        assert wrong.status_code == 404
        assert metric(service, "model_demand_loads_total") == before
        assert (await http.post("/v1/models/m07/load", headers=ADMIN)).is_success
        assert (await ask(http, "m07")).status_code == 200
        hurried = await http.post(
            "/v1/classify?model=m09",
            content=picture(),
            headers={"Content-Type": "image/png", "X-Request-Timeout-Ms": "1"},
        )
        assert hurried.status_code in (408, 503, 504)
