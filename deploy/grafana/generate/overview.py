"""Overview: traffic, errors, latency, saturation and the cache, by task and model."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.generate.clients import clients
from deploy.grafana.generate.frame import JOB, OF_MODEL, RATE, fill, frame, models
from deploy.grafana.generate.level import (
    AVAILABILITY,
    FAILURES,
    FAST_BURN,
    LATENCY,
    SECONDS,
    SLOW_BURN,
)
from deploy.grafana.generate.panels import (
    BAD,
    GOOD,
    WARN,
    AnyPanel,
    Limits,
    lines,
    number,
    quantiles,
    rows,
)
from deploy.grafana.generate.processes import processes
from deploy.grafana.generate.streams import live_streams

_TASK = f"max by (instance, model, version, task) (model_info{{{JOB}}})"
_ITEMS = f"rate(inference_requests_total{{{OF_MODEL}}}{RATE})"
_BUCKETS = f"rate(inference_request_seconds_bucket{{{OF_MODEL}}}{RATE})"
_ERRORS = f'rate(inference_requests_total{{{OF_MODEL}, outcome!="ok"}}{RATE})'
_FAILED = f'rate(inference_requests_total{{{OF_MODEL}, outcome=~"{FAILURES}"}}{RATE})'
_BURN: Limits = ((SLOW_BURN, WARN), (FAST_BURN, BAD))


def overview() -> Dashboard:
    """Return the dashboard to look at first."""
    description = "Service level, traffic, errors, latency, saturation and cache"
    dashboard = frame("Overview", "overview", description)
    for variable in models(several=True):
        dashboard.with_variable(variable)
    rows_of_panels = {
        "Service level": _service_level(),
        "Traffic and errors": _traffic(),
        "Clients": clients(),
        "Latency": _latency(),
        "Streams": _streams(),
        "Live streams": live_streams(),
        "Saturation": _saturation(),
        "Cache": _cache(),
    }
    return fill(dashboard, rows_of_panels)


def by_task(rates: str, *keep: str) -> str:
    """Return rates by version summed by task, without items whose model is unknown."""
    labels = ", ".join(("task", *keep))
    return f"sum by ({labels}) ({rates} * on (instance, model, version) group_left (task) {_TASK})"


def _service_level() -> list[AnyPanel]:
    ready = f'model_ready{{{JOB}, model=~"$model"}}'
    within = f'rate(inference_request_seconds_bucket{{{OF_MODEL}, le="{SECONDS}"}}{RATE})'
    counted = f"rate(inference_request_seconds_count{{{OF_MODEL}}}{RATE})"
    return [
        rows(
            "Firing alerts",
            "Alerts that fire now; their runbooks are in docs/operations.md.",
            'ALERTS{alertname=~"Quartet.*", alertstate="firing"}',
            {
                "alertname": "Alert",
                "severity": "Severity",
                "model": "Model",
                "instance": "Replica",
            },
            width=12,
        ),
        number(
            "Replicas",
            "Replicas that Prometheus can scrape, and those that it cannot.",
            "none",
            {"up": f"sum(up{{{JOB}}})", "down": f"sum(1 - up{{{JOB}}})"},
        ),
        number(
            "Models ready",
            "Share of the wanted models that are ready, over all replicas.",
            "percentunit",
            {"ready": f"avg({ready})"},
            limits=((1.0, GOOD),),
            base=BAD,
        ),
        number(
            "Items",
            "Items requested, including cache hits and errors.",
            "cps",
            {"items": f"sum({_ITEMS})"},
        ),
        number(
            "Availability",
            "Share of the items that did not fail. Client errors are not failures. "
            f"The objective is {AVAILABILITY:.1%}.",
            "percentunit",
            {"availability": f"1 - sum({_FAILED}) / sum({_ITEMS})"},
            limits=((0.99, WARN), (AVAILABILITY, GOOD)),
            base=BAD,
        ),
        number(
            f"Within {SECONDS} s",
            f"Share of the items answered within {SECONDS} s. The objective is {LATENCY:.0%}.",
            "percentunit",
            {"in time": f"sum({within}) / sum({counted})"},
            limits=((0.95, WARN), (LATENCY, GOOD)),
            base=BAD,
        ),
        lines(
            "Burn rate",
            "Rate at which failures and slow answers of the last hour spend the error budget; 1 "
            "spends "
            "a month's budget in a month. Sustained values of 6 and 14.4 fire an alert.",
            "none",
            {
                "{{model}} failing": 'model:inference_failures:ratio_rate1h{model=~"$model"} '
                f"/ {1 - AVAILABILITY:.3g}",
                "{{model}} slow": 'model:inference_slow:ratio_rate1h{model=~"$model"} '
                f"/ {1 - LATENCY:.2g}",
            },
            limits=_BURN,
        ),
    ]


def _traffic() -> list[AnyPanel]:
    http = f"rate(http_requests_total{{{JOB}}}{RATE})"
    return [
        lines(
            "Items by model",
            "Items requested, whatever their outcome; `_unknown_` counts models that do not exist.",
            "cps",
            {"{{model}}": f"sum by (model) ({_ITEMS})"},
            stacked=True,
        ),
        lines(
            "Items by task",
            "The same by task, without items whose model does not exist.",
            "cps",
            {"{{task}}": by_task(_ITEMS)},
            stacked=True,
        ),
        lines(
            "HTTP responses by status",
            "Requests of all routes; a request may hold several items. 499: the client "
            "disconnected.",
            "reqps",
            {"{{status}}": f"sum by (status) ({http})"},
            stacked=True,
        ),
        lines(
            "Errors by code",
            "Items that ended in an error, by error code.",
            "cps",
            {"{{outcome}}": f"sum by (outcome) ({_ERRORS})"},
            stacked=True,
        ),
        lines(
            "Errors by model",
            "Share of a model's items that ended in an error, including client errors.",
            "percentunit",
            {"{{model}}": f"sum by (model) ({_ERRORS}) / sum by (model) ({_ITEMS})"},
            share=True,
        ),
        lines(
            "Errors by task",
            "The same by task, without items whose model does not exist.",
            "percentunit",
            {"{{task}}": f"{by_task(_ERRORS)} / {by_task(_ITEMS)}"},
            share=True,
        ),
    ]


def _latency() -> list[AnyPanel]:
    level: Limits = ((SECONDS, BAD),)
    slow = f"histogram_quantile(0.95, {by_task(_BUCKETS, 'le')})"
    return [
        lines(
            "Latency",
            "Time of an item, including cache hits and errors. "
            f"The objective is {LATENCY:.0%} below the line.",
            "s",
            quantiles(_BUCKETS),
            limits=level,
        ),
        lines(
            "Latency by task",
            "95th percentile of the time of an item.",
            "s",
            {"{{task}} p95": slow},
            limits=level,
        ),
        lines(
            "Latency by model",
            "95th percentile of the time of an item.",
            "s",
            {"{{model}} p95": f"histogram_quantile(0.95, sum by (model, le) ({_BUCKETS}))"},
            limits=level,
        ),
    ]


def _streams() -> list[AnyPanel]:
    first = f"rate(http_stream_first_seconds_bucket{{{JOB}}}{RATE})"
    whole = f"rate(http_stream_seconds_bucket{{{JOB}}}{RATE})"
    return [
        lines(
            "Streams",
            "Open streams at each scrape.",
            "none",
            {"{{route}}": f"sum by (route) (http_streams{{{JOB}}})"},
        ),
        lines(
            "First piece",
            "Time from a request to the first event of its stream.",
            "s",
            quantiles(first),
            limits=((SECONDS, BAD),),
        ),
        lines(
            "Whole streams",
            "Duration of streams; it grows with the length of the text and with slow clients.",
            "s",
            quantiles(whole),
        ),
    ]


def _saturation() -> list[AnyPanel]:
    pending = f"inference_pending_requests{{{OF_MODEL}}}"
    fill = f"{pending} / on (instance, model, version) model_queue_limit{{{JOB}}}"
    return [
        lines(
            "Queue",
            "Fill level of the fullest replica's queue; a full queue refuses items with 429.",
            "percentunit",
            {"{{model}}": f"max by (model) ({fill})"},
            limits=((0.8, BAD),),
        ),
        lines(
            "Backlog",
            "Expected time until the waiting items have been computed, on the busiest replica. "
            "Replicas are added above the line.",
            "s",
            {"{{model}}": f"max by (model) (inference_backlog_seconds{{{OF_MODEL}}})"},
            limits=((0.2, BAD),),
        ),
        lines(
            "Batches on the device",
            "Batches that compute at the same time, averaged over five minutes, and the number of "
            "threads for them. At that number the device is full.",
            "none",
            {
                "{{instance}}": f"avg_over_time(device_running_batches{{{JOB}}}[5m])",
                "threads": f"min(device_slots{{{JOB}}})",
            },
        ),
        lines(
            "Processors",
            "CPU cores used by each replica.",
            "none",
            {"{{instance}}": f"rate(process_cpu_seconds_total{{{JOB}}}{RATE})"},
        ),
        *processes(),
    ]


def _cache() -> list[AnyPanel]:
    lookups = f'rate(response_cache_lookups_total{{{JOB}, level=~"memory|redis"}}{RATE})'
    hits = f'rate(response_cache_lookups_total{{{JOB}, level=~"memory|redis", result="hit"}}{RATE})'
    answered = f'rate(inference_requests_total{{{OF_MODEL}, outcome="ok"}}{RATE})'
    computed = f"rate(inference_queue_seconds_count{{{OF_MODEL}}}{RATE})"

    def spared(answered: str, computed: str) -> str:
        return f"clamp_min(1 - {computed} / {answered}, 0)"

    return [
        lines(
            "Hit rate",
            "Share of the look-ups that found an answer. Redis is queried after a miss in memory.",
            "percentunit",
            {"{{level}}": f"sum by (level) ({hits}) / sum by (level) ({lookups})"},
            share=True,
        ),
        lines(
            "Answered without computing, by model",
            "Share of the answers that came from the cache, or from the computation of an "
            "identical "
            "item that was already running.",
            "percentunit",
            {"{{model}}": spared(f"sum by (model) ({answered})", f"sum by (model) ({computed})")},
            share=True,
        ),
        lines(
            "Answered without computing, by task",
            "The same by task.",
            "percentunit",
            {"{{task}}": spared(by_task(answered), by_task(computed))},
            share=True,
        ),
    ]
