"""The service as a deployment of Ray Serve: `serve run service.ray_app:build models.only=zh-en`.

Ray starts and ends replicas, and its proxies listen. A replica is the application of `build_app`,
with its own models, device and cache. The extra `ray` installs what this needs.
"""

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from service.api.around import surrounded
from service.api.context import ApiContext, Lifecycle
from service.app import build_app
from service.errors import ModelLoadError
from service.pull_command import with_pulled
from service.registry.registry import Registry
from service.registry.status import ModelState
from service.settings import SettingsError, read_settings
from service.telemetry import metrics
from service.telemetry.logs import configure_logs

if TYPE_CHECKING:
    from ray.serve import Application
    from ray.serve.config import AutoscalingContext


TARGETS: Final[Mapping[str, float]] = {"backlog_seconds": 0.2, "busy_ratio": 0.7}
"""What each replica should have at most, on average over a few seconds."""

DEPLOYMENT: Final[Mapping[str, Any]] = {
    "name": "Quartet",
    # The batchers decide what runs together: the default of 5 would leave them nothing to choose.
    "max_ongoing_requests": 512,
    "max_queued_requests": 128,
    "backpressure_config": {"status_code": 429, "retry_after_s": 1},
    # A model takes seconds to load: an update starts replicas before it stops old ones.
    "max_surge_percent": 50,
    # A model that cannot be loaded three times cannot be loaded.
    "max_constructor_retry_count": 3,
    # Longer than the grace period of 30 s.
    "graceful_shutdown_timeout_s": 40,
    "health_check_period_s": 5,
    "health_check_timeout_s": 10,
}
"""Options of the deployment; a config file of Ray can replace each of them."""

# A model whose every version has failed stays so; between two of its versions it is for a moment.
_FAILED_SECONDS, _POLL_SECONDS = 2.0, 0.05

_AUTOSCALING: Final[Mapping[str, float]] = {
    "look_back_period_s": 10,
    "metrics_interval_s": 1,
    "upscale_delay_s": 3,
    "downscale_delay_s": 120,
}


def build(options: Mapping[str, Any]) -> "Application":
    """Return the application for Ray Serve.

    Args:
        options: settings by name, `models.only` or `limits.max_items`, and besides them
            `ray.num_cpus` (1) and `ray.num_gpus` (0) of each replica, `ray.min_replicas` (1) and
            `ray.max_replicas` (as many). Settings that are not here come from the environment of
            the replica.

    Raises:
        SettingsError: an option is unknown or has no such value.
    """
    # A config file has numbers and switches where a command line has text.
    given = {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
    }
    cpus = _number(given, "ray.num_cpus", 1)
    resources = {"num_cpus": cpus, "num_gpus": _number(given, "ray.num_gpus", 0)}
    least = int(_number(given, "ray.min_replicas", 1))
    most = int(_number(given, "ray.max_replicas", least))
    if unknown := [name for name in given if name.startswith("ray.")]:
        raise SettingsError(f"{unknown[0]} is no option of a deployment")
    if not 1 <= least <= most:
        raise SettingsError("ray.max_replicas must be at least ray.min_replicas, and that 1")
    # Ray only counts processors; it does not keep a replica from using others.
    given.setdefault("models.threads", str(max(1, int(cpus))))
    read_settings({}, given)  # here, where the error is seen by the person who deploys
    scaling: dict[str, Any] = {"num_replicas": least}
    if most > least:
        policy = {"policy_function": replicas_wanted}
        bounds = {"min_replicas": least, "max_replicas": most, "initial_replicas": least}
        scaling = {"autoscaling_config": {**_AUTOSCALING, **bounds, "policy": policy}}
    from ray import serve  # noqa: PLC0415 - an extra

    deployment = serve.deployment(ray_actor_options=resources, **DEPLOYMENT, **scaling)
    application: Application = deployment(serve.ingress()(Quartet)).bind(given)
    return application


def _number(options: dict[str, str], name: str, default: float) -> float:
    text = options.pop(name, str(default))
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise SettingsError(f"{name} is {text[:100]!r}, which is not a number from 0")
    return number


def replicas_wanted(context: "AutoscalingContext") -> tuple[float, dict[str, Any]]:
    """Return how many replicas the reported load is enough for; Ray's policy function."""
    reported = context.aggregated_metrics or {}
    shares = [
        sum(of_replicas.values()) / TARGETS[name]
        for name, of_replicas in reported.items()
        if name in TARGETS
    ]
    if not shares:  # nothing was reported yet
        return context.target_num_replicas, {}
    return max(1, math.ceil(max(shares))), {}


class Quartet:
    """One replica. Ray calls its methods; it has no `__call__`."""

    def __init__(self, options: Mapping[str, str]) -> None:
        """Read the settings; nothing is loaded yet."""
        settings = read_settings(os.environ, options)
        logs = settings.logs
        configure_logs(logs.level, logs.format, levels=logs.levels)
        self._settings = settings.model_copy(update={"models": with_pulled(settings.models)})
        self._context: ApiContext | None = None
        self._busy_before = 0.0, time.monotonic()

    async def __serve_build_asgi_app__(self) -> Any:
        """Return the application. Its lifespan begins once every wanted model is ready.

        Ray sends requests as soon as the lifespan has started.
        """
        app = build_app(self._settings, Lifecycle())
        inner = app.router.lifespan_context
        self._context = context = app.context  # type: ignore[attr-defined]

        @asynccontextmanager
        async def lifespan(app: Any) -> AsyncIterator[Any]:
            async with inner(app) as state:
                await until_ready(context.registry)
                yield state

        app.router.lifespan_context = lifespan
        server = self._settings.server
        return surrounded(app, server.cors_origins, server.forwarded_allow_ips)

    async def check_health(self) -> None:
        """Raise if a wanted model cannot answer; Ray then replaces the replica.

        Raises:
            ModelLoadError: it cannot.
        """
        if (context := self._context) is None:
            return
        if problem := context.device_problem() or _listed(context.registry.not_ready()):
            raise ModelLoadError(problem)

    async def record_autoscaling_stats(self) -> Mapping[str, float]:
        """Return the load of this replica, which `replicas_wanted` gets from all of them."""
        backlog = _sum(metrics.INFERENCE_BACKLOG_SECONDS)
        busy, now = _sum(metrics.DEVICE_BUSY_SECONDS), time.monotonic()
        (before, then), self._busy_before = self._busy_before, (busy, now)
        slots = _sum(metrics.DEVICE_SLOTS) * (now - then)
        return {"backlog_seconds": backlog, "busy_ratio": (busy - before) / slots if slots else 0.0}


def _sum(metric: Any) -> float:
    return float(sum(sample.value for family in metric.collect() for sample in family.samples))


async def until_ready(registry: Registry) -> None:
    """Return when every wanted model is ready.

    Raises:
        ModelLoadError: a model cannot be loaded.
    """
    failed_since: float | None = None
    while reasons := registry.not_ready():
        statuses = registry.statuses()
        busy = {one.model for one in statuses if one.state is ModelState.LOADING}
        failed = {one.model for one in statuses if one.state is ModelState.FAILED} - busy
        now = time.monotonic()
        failed_since = (failed_since or now) if failed & reasons.keys() else None
        if failed_since is not None and now - failed_since > _FAILED_SECONDS:
            raise ModelLoadError(_listed(reasons))
        await asyncio.sleep(_POLL_SECONDS)


def _listed(reasons: Mapping[str, str]) -> str:
    return "; ".join(f"{model}: {reason}" for model, reason in reasons.items())
