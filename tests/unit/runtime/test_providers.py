"""A provider is one row: a fake one is listed, chosen, refused when it is missing, and serves."""

import asyncio
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from service.api import Lifecycle
from service.app import build_app
from service.errors import DeviceUnavailableError
from service.repository.manifest import DeviceKind
from service.runtime.graphs import Graph
from service.runtime.providers import PROVIDERS, Device, Provider, resolve
from service.runtime.session import OrtSession
from service.settings import ModelSettings, Settings
from tests.lamps import make_repository
from tests.sentences import sentence

ROOT = Path(__file__).parents[3]
OPENED: list[tuple[str, int]] = []


def open_fake(
    graph: Graph,
    device: Device,
    threads: int,
    *,
    keeps_patterns: bool = True,
    is_bounded: bool = True,
    input_names: Mapping[str, str] | None = None,
) -> OrtSession:
    OPENED.append((str(device), threads))
    return OrtSession(graph, Device("cpu"), threads, input_names=input_names)


@pytest.fixture
def npu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Add the provider; what the returned list holds is why it cannot be used."""
    problems: list[str] = []
    row = Provider(
        "FakeExecutionProvider",
        opens=open_fake,
        problem=lambda device: problems[0] if problems else None,
        our_threads=False,
        most_batches=3,
        is_numbered=True,
    )
    monkeypatch.setitem(PROVIDERS, "npu", row)  # type: ignore[arg-type]
    OPENED.clear()
    return problems


def test_it_is_listed_and_chosen_by_name(npu: list[str]) -> None:
    assert resolve("npu:1") == Device("npu", 1)
    with pytest.raises(DeviceUnavailableError, check=sentence):
        resolve("tpu")


def test_it_is_refused_with_its_own_sentence_when_it_is_missing(npu: list[str]) -> None:
    npu.append("npu:0 needs the package fakes")
    with pytest.raises(DeviceUnavailableError, check=sentence):
        build_app(Settings(models=ModelSettings(device="npu")), Lifecycle())


def test_auto_never_takes_it(npu: list[str]) -> None:
    assert resolve("auto").kind != "npu"


@pytest.mark.looptime(False)  # sessions run on real threads
async def test_it_serves_a_request(npu: list[str], tmp_path: Path) -> None:
    make_repository(tmp_path)
    models = ModelSettings(repository=tmp_path, device="npu:0", warm_up_seconds=0.001)
    app = build_app(Settings(models=models), Lifecycle())
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://here") as client,
    ):
        while (await client.get("/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        image = (tmp_path / "lamps/1/goldens/255.png").read_bytes()
        reply = await client.post(
            "/v1/classify", content=image, headers={"content-type": "image/png"}
        )
        metrics = (await client.get("/metrics")).text
    assert reply.json()["results"][0]["labels"][0]["label"] == "light"
    assert set(OPENED) == {("npu:0", 1)}
    assert 'device="npu:0",provider="FakeExecutionProvider"' in metrics


def test_every_provider_follows_a_default_precision_that_manifests_may_give() -> None:
    kinds = set(DeviceKind.__args__)  # type: ignore[attr-defined]
    assert {provider.precisions_of for provider in PROVIDERS.values()} <= kinds


def test_only_the_table_of_providers_knows_their_names() -> None:
    """Adding a provider touches one file: no other one asks which provider a device has."""
    names = "|".join({*PROVIDERS, *(row.name for row in PROVIDERS.values())})
    asks = re.compile(
        rf"(?<!dtype)\.kind\b\s*(==|!=|in\b)|(==|!=)\s*[\"']({names})[\"']|ExecutionProvider"
    )
    files = (ROOT / "service").rglob("*.py")
    found = {path.name for path in files if asks.search(path.read_text())}
    assert found == {"providers.py"}


@pytest.mark.parametrize(
    ("capabilities", "wanted"),
    [(["BF16", "FP32", "INT8"], ("f32", "bf16")), (["FP32", "INT8"], ("f32",))],
)
def test_openvino_offers_bf16_only_where_the_processor_has_it(
    capabilities: list[str], wanted: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    core = SimpleNamespace(get_property=lambda device, name: capabilities)
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: core))
    assert PROVIDERS["openvino"].inference_precisions() == wanted
