"""One version of one model: timings, batches, loads and parity."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.generate.frame import JOB, OF_MODEL, RATE, fill, frame, models, replicas
from deploy.grafana.generate.level import SECONDS
from deploy.grafana.generate.panels import (
    BAD,
    GOOD,
    WARN,
    AnyPanel,
    lines,
    number,
    quantiles,
    rows,
    spread,
    states,
)

_OF = f'{OF_MODEL}, instance=~"$instance"'
_OF_ALL_VERSIONS = f'{JOB}, model=~"$model", instance=~"$instance"'


def model() -> Dashboard:
    """Return the dashboard of one version."""
    description = "One version of one model: timings, batches, loads and parity"
    dashboard = frame("Model", "model", description)
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
            "Replicas on which this version is ready.",
            "none",
            {"ready": f'sum(model_state{{{_OF}, state="ready"}})'},
            limits=((1, GOOD),),
            base=BAD,
        ),
        number(
            "Items",
            "Items requested, including cache hits and errors.",
            "cps",
            {"items": f"sum({_rate('inference_requests_total')})"},
        ),
        number(
            "Load",
            "Duration of the last load, including warm-up and golden check.",
            "s",
            {"load": f"max(model_load_seconds{{{_OF}}})"},
        ),
        rows(
            "Loaded",
            "Loaded versions by replica. Equal digests give equal answers.",
            f"model_info{{{_OF}}}",
            columns,
            width=12,
        ),
    ]


def _time() -> list[AnyPanel]:
    return [
        lines(
            "Request time",
            "Time of an item in the service, including cache hits.",
            "s",
            quantiles(_rate("inference_request_seconds_bucket")),
            limits=((SECONDS, BAD),),
            width=6,
        ),
        lines(
            "Queue time",
            "Time an item waited until its batch started.",
            "s",
            quantiles(_rate("inference_queue_seconds_bucket")),
            width=6,
        ),
        lines(
            "Compute time",
            "Time of one batch on its thread; in-flight models: from joining the batch to the "
            "result.",
            "s",
            quantiles(_rate("inference_compute_seconds_bucket")),
            width=6,
        ),
        lines(
            "Outcomes",
            "Items by outcome.",
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
            "Batches per second, by number of items.",
            "none",
            f"sum by (le) ({_rate('inference_batch_size_bucket')})",
            width=8,
        ),
        lines(
            "Mean batch",
            "Items in a batch (in-flight models: rows in a step), and the batch size with the best "
            "measured throughput for the longest items of each lane. A mean far below it means "
            "that "
            "the device is not busy or that items differ in length.",
            "none",
            {
                "mean": f"{_MEAN_BATCH} or {_MEAN_STEP}",
                "best, {{lane}}": f"max by (lane) (model_batch_limit{{{_OF}}})",
            },
        ),
        lines(
            "Padding",
            "Share of a batch's tokens or pixels that is padding. In-flight models have none.",
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
            "Rows (hypotheses) reserved for the running translations, and rows computed in a step. "
            "The panels of this row are empty for models without in-flight batching.",
            "none",
            {"{{instance}}": f"inflight_rows{{{_OF}}}", "computed in a step": _MEAN_STEP},
        ),
        lines(
            "Steps",
            "Decoder steps, each for all running translations of an instance.",
            "cps",
            {"steps": f"sum({_rate('inflight_steps_total')})"},
        ),
        lines(
            "Tokens",
            "Tokens generated: one per step and running translation, independent of the beam size.",
            "cps",
            {"tokens": f"sum({_rate('inflight_tokens_total')})"},
        ),
        lines(
            "Time to first token",
            "Time from the arrival of a translation to its first token.",
            "s",
            quantiles(_rate("inflight_first_token_seconds_bucket")),
        ),
        lines(
            "Join wait",
            "Time a translation waited until it joined the running batch.",
            "s",
            quantiles(_rate("inflight_join_seconds_bucket")),
        ),
        lines(
            "Wasted rows",
            "Share of the computed rows whose client had disconnected by the end of the step.",
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
            "Batches of this version that run or wait for a thread (in-flight models: instances "
            "with "
            "work), averaged over five minutes. The number of threads is shared by all models.",
            "none",
            {"{{instance}}": f"avg_over_time(inference_running_batches{{{_OF}}}[5m])"},
        ),
        lines(
            "Waiting",
            "Items in the queues, and the limit above which a queue refuses items.",
            "none",
            {
                "{{instance}}": f"inference_pending_requests{{{_OF}}}",
                "limit": f"min(model_queue_limit{{{_OF}}})",
            },
        ),
        lines(
            "Faults",
            "Items that failed on their own after their batch was split and retried, and batches "
            "that "
            "ran out of device memory.",
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
            "State of every version of the model: loading, ready, draining, on demand (its next "
            "request loads it) or failed.",
            {"version {{version}} {{state}}": f"max by (version, state) ({every})"},
            width=8,
        ),
        lines(
            "Loads",
            "Loads of the model, all versions, by result.",
            "none",
            {"{{instance}} {{result}}": f"model_loads_total{{{_OF_ALL_VERSIONS}}}"},
        ),
        lines(
            "Parity",
            "Largest difference from the recorded reference answers at load, as a share of the "
            "tolerance. Above 1 the load fails.",
            "percentunit",
            {"{{instance}}": f"{deviation} / on (instance, model, version) {tolerance}"},
            limits=((0.8, WARN), (1, BAD)),
            share=True,
        ),
    ]
