"""The service for Ray Serve, without Ray: its options, its start, its health and its load."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from httpx import ASGITransport, AsyncClient

from service import ray_app
from service.errors import ModelLoadError
from service.registry.status import ModelState
from service.settings import SettingsError
from tests.sentences import sentence

ROOT = Path(__file__).parents[2]
STARTERS = {"models.repository": str(ROOT / "models" / "repository"), "models.only": "digits"}


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"models.onyl": "a"}, "models.onyl"),
        ({"ray.num_cpus": "many"}, "ray.num_cpus"),
        ({"ray.num_cpus": "nan"}, "ray.num_cpus"),
        ({"ray.num_gpus": "-1"}, "ray.num_gpus"),
        ({"ray.min_replicas": 0}, "ray.min_replicas"),
        ({"ray.min_replicas": 3, "ray.max_replicas": 2}, "ray.max_replicas"),
        ({"ray.replicas": 2}, "ray.replicas"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_anything_starts(
    options: Mapping[str, Any], reason: str
) -> None:
    with pytest.raises(SettingsError, match=reason):
        ray_app.build(options)


@pytest.mark.parametrize(
    ("metrics", "wanted"),
    [
        ({}, 3),
        ({"backlog_seconds": {}, "busy_ratio": {}}, 1),
        ({"backlog_seconds": {"a": 0.1, "b": 0.1}, "busy_ratio": {"a": 0.1, "b": 0.1}}, 1),
        ({"backlog_seconds": {"a": 0.5, "b": 0.05}, "busy_ratio": {"a": 1.0, "b": 0.3}}, 3),
        ({"backlog_seconds": {"a": 0.0, "b": 0.0}, "busy_ratio": {"a": 0.9, "b": 0.9}}, 3),
        ({"another": {"a": 99.0}}, 3),
    ],
)
def test_replicas_follow_the_larger_of_backlog_and_busy_share(
    metrics: Mapping[str, Mapping[str, float]], wanted: int
) -> None:
    context: Any = SimpleNamespace(aggregated_metrics=metrics, target_num_replicas=3)
    assert ray_app.replicas_wanted(context) == (wanted, {})


class Registry:
    """Says what each look is to find: why models are not ready, and the states of versions."""

    def __init__(self, *looks: tuple[Mapping[str, str], Mapping[str, ModelState]]) -> None:
        self._looks: Iterator[Any] = iter([*looks])
        self._states: Mapping[str, ModelState] = {}
        self._last: Any = looks[-1]

    def not_ready(self) -> Mapping[str, str]:
        reasons, self._states = next(self._looks, self._last)
        return reasons

    def statuses(self) -> list[Any]:
        return [
            SimpleNamespace(model=name.split("/")[0], state=s) for name, s in self._states.items()
        ]


async def test_a_start_waits_until_the_models_are_ready(looptime: Any) -> None:
    loading = {"a/1": ModelState.FAILED, "a/2": ModelState.LOADING}
    registry: Any = Registry(*[({"a": "not loaded yet"}, loading)] * 100, ({}, {}))
    await ray_app.until_ready(registry)
    assert looptime == pytest.approx(5)


async def test_a_start_fails_if_a_model_cannot_be_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_app, "_FAILED_SECONDS", 0.0)
    registry: Any = Registry(({"a": "it is broken"}, {"a/1": ModelState.FAILED}))
    with pytest.raises(ModelLoadError, check=sentence):
        await ray_app.until_ready(registry)


@pytest.mark.looptime(False)
async def test_a_replica_answers_says_how_busy_it_is_and_that_it_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ray_app, "configure_logs", lambda *_, **__: None)
    replica = ray_app.Quartet({**STARTERS, "cache.enabled": "false"})
    await replica.check_health()  # Ray may ask before it is built
    app = await replica.__serve_build_asgi_app__()
    async with app.router.lifespan_context(app):
        await replica.check_health()
        assert set(await replica.record_autoscaling_stats()) == set(ray_app.TARGETS)
        digit = (ROOT / "loadtest" / "data" / "digits" / "0.png").read_bytes()
        async with AsyncClient(transport=ASGITransport(app), base_url="http://replica") as client:
            answer = await client.post(
                "/v1/classify", content=digit, headers={"Content-Type": "image/png"}
            )
        assert answer.json()["model"] == "digits"
        load = await replica.record_autoscaling_stats()
        assert 0 < load["busy_ratio"] <= 1
        assert load["backlog_seconds"] == 0
        registry = type(app.context.registry)
        monkeypatch.setattr(registry, "not_ready", lambda _: {"digits": "it is broken"})
        with pytest.raises(ModelLoadError, match="digits"):
            await replica.check_health()


def test_the_example_for_kuberay_names_settings_and_the_deployment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    service = yaml.safe_load((ROOT / "deploy" / "ray" / "rayservice.yaml").read_text())
    config = yaml.safe_load(service["spec"]["serveConfigV2"])
    monkeypatch.setitem(sys.modules, "ray", None)  # so that none is started
    for application in config["applications"]:
        assert application["import_path"] == f"{ray_app.__name__}:{ray_app.build.__name__}"
        with pytest.raises(ImportError):  # after the options were accepted
            ray_app.build(application["args"])
        for deployment in application.get("deployments", ()):
            assert deployment["name"] == ray_app.DEPLOYMENT["name"]
