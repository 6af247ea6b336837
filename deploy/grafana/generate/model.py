"""One version of one model: where its time goes, its batches, its loads and its parity."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.generate.frame import JOB, OF_MODEL, RATE, fill, frame, models, replicas
from deploy.grafana.generate.level import SECONDS
from deploy.grafana.generate.overview import quantiles
from deploy.grafana.generate.panels import (
    BAD,
    GOOD,
    WARN,
    AnyPanel,
    lines,
    number,
    rows,
    spread,
    states,
)

_OF = f'{OF_MODEL}, instance=~"$instance"'
_OF_ALL_VERSIONS = f'{JOB}, model=~"$model", instance=~"$instance"'


def model() -> Dashboard:
    """Return the dashboard of one version."""
    tells = "One version of one model: where its time goes, its batches, its loads and its parity"
    dashboard = frame("Model", "model", tells)
    for variable in (*models(several=False), replicas()):
        dashboard.with_variable(variable)
    rows_of_panels = {
        "Now": _now(),
        "Where the time goes": _time(),
        "Batches": _batches(),
        "In flight": _in_flight(),
        "Device": _device(),
        "Loads and parity": _loads(),
    }
    return fill(dashboard, rows_of_panels)


def _rate(metric: str) -> str:
    return f"rate({metric}{{{_OF}}}{RATE})"


def _mean(metric: str) -> str:
    return f"sum({_rate(f'{metric}_sum')}) / sum({_rate(f'{metric}_count')})"


_MEAN_BATCH = (
    f"sum({_rate('inference_batch_size_sum')}) / (sum({_rate('inference_batch_size_count')}) > 0)"
)
_MEAN_STEP = (
    f"sum({_rate('inflight_step_rows_total')}) / (sum({_rate('inflight_steps_total')}) > 0)"
)

_STEP_ROWS = f"(sum({_rate('inflight_step_rows_total')}) > 0)"


def _now() -> list[AnyPanel]:
    columns = {
        "instance": "Replica",
        "task": "Task",
        "family": "Family",
        "precision": "Precision",
        "device": "Device",
        "digest": "Digest",
    }
    return [
        number(
            "Ready",
            "Replicas on which this version answers.",
            "none",
            {"ready": f'sum(model_state{{{_OF}, state="ready"}})'},
            limits=((1, GOOD),),
            base=BAD,
        ),
        number(
            "Items",
            "Items asked for, cache hits and errors included.",
            "cps",
            {"items": f"sum({_rate('inference_requests_total')})"},
        ),
        number(
            "Load",
            "Time of the last load, warm-up and golden check included.",
            "s",
            {"load": f"max(model_load_seconds{{{_OF}}})"},
        ),
        rows(
            "Loaded",
            "What is loaded where. The same digest gives the same answers.",
            f"model_info{{{_OF}}}",
            columns,
            width=12,
        ),
    ]


def _time() -> list[AnyPanel]:
    return [
        lines(
            "Request time",
            "Time of an item from the border and back, cache hits included.",
            "s",
            quantiles(_rate("inference_request_seconds_bucket")),
            limits=((SECONDS, BAD),),
            width=6,
        ),
        lines(
            "Queue time",
            "How long an item waited for its batch to start.",
            "s",
            quantiles(_rate("inference_queue_seconds_bucket")),
            width=6,
        ),
        lines(
            "Compute time",
            "Time of one batch on its thread.",
            "s",
            quantiles(_rate("inference_compute_seconds_bucket")),
            width=6,
        ),
        lines(
            "Outcomes",
            "Items by what became of them.",
            "cps",
            {"{{outcome}}": f"sum by (outcome) ({_rate('inference_requests_total')}) > 0"},
            width=6,
            stacked=True,
        ),
    ]


def _batches() -> list[AnyPanel]:
    padding = {
        "p95": f"histogram_quantile(0.95, sum by (le) ({_rate('inference_padding_ratio_bucket')}))"
    }
    return [
        spread(
            "Batch sizes",
            "Batches a second, by the number of their items.",
            "none",
            f"sum by (le) ({_rate('inference_batch_size_bucket')})",
            width=8,
        ),
        lines(
            "Mean batch",
            "Items in a batch (of translations in flight, rows in a step), and how many the "
            "measured curve favours for the longest items of each lane. Far below that, the "
            "device is not busy or the items differ in length.",
            "none",
            {
                "mean": f"{_MEAN_BATCH} or {_MEAN_STEP}",
                "favoured, {{lane}}": f"max by (lane) (model_batch_limit{{{_OF}}})",
            },
        ),
        lines(
            "Padding",
            "Share of a batch's tokens or pixels that was computed for nothing. Translations in "
            "flight are not padded.",
            "percentunit",
            {"mean": _mean("inference_padding_ratio"), **padding},
            limits=((0.5, WARN),),
            share=True,
        ),
    ]


def _in_flight() -> list[AnyPanel]:
    return [
        lines(
            "Rows in use",
            "Rows (hypotheses) that the running translations may come to take, and how many a step "
            "computes. Empty, as all of these, where nothing is decoded in flight.",
            "none",
            {"{{instance}}": f"inflight_rows{{{_OF}}}", "computed in a step": _MEAN_STEP},
        ),
        lines(
            "Steps",
            "Steps of the decoder, each for all running translations of an instance at once.",
            "cps",
            {"steps": f"sum({_rate('inflight_steps_total')})"},
        ),
        lines(
            "Tokens",
            "Tokens written: one a step for each running translation, whatever its beams.",
            "cps",
            {"tokens": f"sum({_rate('inflight_tokens_total')})"},
        ),
        lines(
            "Time to first token",
            "From the arrival of a translation to its first token.",
            "s",
            quantiles(_rate("inflight_first_token_seconds_bucket")),
        ),
        lines(
            "Join wait",
            "How long a translation waited until it joined the running ones.",
            "s",
            quantiles(_rate("inflight_join_seconds_bucket")),
        ),
        lines(
            "Wasted rows",
            "Share of the rows computed that were for callers who had left by the end of the step.",
            "percentunit",
            {"wasted": f"sum({_rate('inflight_wasted_rows_total')}) / {_STEP_ROWS}"},
            limits=((0.2, WARN),),
            share=True,
        ),
    ]


def _device() -> list[AnyPanel]:
    return [
        lines(
            "Instances busy",
            "Batches of this version on the device: the mean, and the number at each scrape. One "
            "more than there are threads may be formed ahead.",
            "none",
            {
                "mean": f"sum({_rate('inference_compute_seconds_sum')})",
                "at the scrape": f"sum(inference_running_batches{{{_OF}}})",
            },
        ),
        lines(
            "Waiting",
            "Items in the queues, and how many each of them takes before it refuses.",
            "none",
            {
                "{{instance}}": f"inference_pending_requests{{{_OF}}}",
                "limit": f"min(model_queue_limit{{{_OF}}})",
            },
        ),
        lines(
            "Faults",
            "Items that failed alone after their batch was retried in halves, and batches that "
            "the device had no memory for.",
            "cps",
            {
                "failed alone": f"sum({_rate('inference_isolated_failures_total')})",
                "out of memory": f"sum({_rate('device_memory_exhausted_total')})",
            },
        ),
    ]


def _loads() -> list[AnyPanel]:
    every = f"model_state{{{_OF_ALL_VERSIONS}}}"
    deviation, tolerance = f"model_golden_deviation{{{_OF}}}", f"model_golden_tolerance{{{_OF}}}"
    return [
        states(
            "States",
            "Every version of the model: when it was loading, ready, draining or failed.",
            {"version {{version}} {{state}}": f"max by (version, state) ({every})"},
            width=8,
        ),
        lines(
            "Loads",
            "Loads of the model so far, any version, by result.",
            "none",
            {"{{instance}} {{result}}": f"model_loads_total{{{_OF_ALL_VERSIONS}}}"},
        ),
        lines(
            "Parity",
            "Largest deviation from the original's recorded answers at load, as a share of what "
            "the precision allows. Beyond 1 the load is refused.",
            "percentunit",
            {"{{instance}}": f"{deviation} / on (instance, model, version) {tolerance}"},
            limits=((0.8, WARN), (1, BAD)),
            share=True,
        ),
    ]
