"""Resources of the replicas: processors, memory, GPU, cache and Redis."""

from grafana_foundation_sdk.builders.dashboard import Dashboard

from deploy.grafana.generate.frame import JOB, OF_MODEL, RATE, fill, frame, models, replicas
from deploy.grafana.generate.panels import BAD, GOOD, WARN, AnyPanel, lines, number, quantiles, rows

_OF = f'{JOB}, instance=~"$instance"'


def resources() -> Dashboard:
    """Return the dashboard of the replicas."""
    description = "Resources of the replicas: processors, memory, GPU, cache and Redis"
    dashboard = frame("Resources", "resources", description)
    for variable in (replicas(), *models(several=True)):
        dashboard.with_variable(variable)
    rows_of_panels = {
        "Replicas": _replicas(),
        "Processors and memory": _host(),
        "Models in memory": _models(),
        "GPU": _gpu(),
        "Cache and Redis": _redis(),
    }
    return fill(dashboard, rows_of_panels)


def _replicas() -> list[AnyPanel]:
    columns = {
        "instance": "Replica",
        "device": "Device",
        "provider": "Provider",
        "threads": "Threads",
    }
    return [
        number(
            "Replicas up",
            "Share of the known replicas that Prometheus can scrape.",
            "percentunit",
            {"up": f"avg(up{{{_OF}}})"},
            limits=((1.0, GOOD),),
            base=BAD,
        ),
        number(
            "Youngest",
            "Time since the most recent start of a replica.",
            "s",
            {"up for": f"min(time() - process_start_time_seconds{{{_OF}}})"},
            limits=((300, GOOD),),
            base=WARN,
        ),
        number(
            "Scrape",
            "Duration of the slowest scrape.",
            "s",
            {"scrape": f"max(scrape_duration_seconds{{{_OF}}})"},
            limits=((1.0, WARN), (5.0, BAD)),
        ),
        rows(
            "Devices",
            "Device, execution provider and threads of each replica.",
            f"device_info{{{_OF}}}",
            columns,
            width=12,
        ),
    ]


def _host() -> list[AnyPanel]:
    files = f"process_open_fds{{{_OF}}} / process_max_fds{{{_OF}}}"
    running = f'inference_running_batches{{{OF_MODEL}, instance=~"$instance"}}'
    return [
        lines(
            "Processors",
            "CPU cores used by each replica.",
            "none",
            {"{{instance}}": f"rate(process_cpu_seconds_total{{{_OF}}}{RATE})"},
            width=6,
        ),
        lines(
            "Memory",
            "Resident memory of each replica: models, threads, cached answers.",
            "bytes",
            {"{{instance}}": f"process_resident_memory_bytes{{{_OF}}}"},
            width=6,
        ),
        lines(
            "Batches by model",
            "Batches that run or wait for a thread, at each scrape.",
            "none",
            {"{{model}}": f"sum by (model) ({running})"},
            width=6,
            stacked=True,
        ),
        lines(
            "Open files",
            "Open files and connections, as a share of the limit.",
            "percentunit",
            {"{{instance}}": files},
            limits=((0.8, BAD),),
            width=6,
            share=True,
        ),
    ]


def _models() -> list[AnyPanel]:
    held = f"sum by (instance) (model_memory_bytes{{{_OF}}})"
    each = f'max by (model, version) (model_memory_bytes{{{OF_MODEL}, instance=~"$instance"}})'
    moves = {
        "loaded": f"sum(rate(model_demand_loads_total{{{_OF}}}{RATE}))",
        "left": f"sum(rate(model_evictions_total{{{_OF}}}{RATE}))",
    }
    return [
        lines(
            "Share of models.memory_bytes",
            "What the loaded versions take of the memory that they may take; absent without a "
            "limit.",
            "percentunit",
            {"{{instance}}": f"{held} / (model_memory_budget_bytes{{{_OF}}} > 0)"},
            width=6,
            share=True,
        ),
        lines(
            "Memory by version",
            "As measured when the version was loaded (the size of its files if other loads ran "
            "then), on the replica where it is largest.",
            "bytes",
            {"{{model}} {{version}}": each},
            width=6,
            stacked=True,
        ),
        lines(
            "Loads on demand",
            "Models loaded for a request, and models that left memory for them.",
            "cps",
            moves,
            width=6,
        ),
        lines(
            "Requests that wait for a load",
            "At each scrape, by replica.",
            "none",
            {"{{instance}}": f"model_requests_waiting{{{_OF}}}"},
            width=6,
        ),
    ]


def _gpu() -> list[AnyPanel]:
    used = f'device_memory_bytes{{{_OF}, kind="used"}}'
    total = f'device_memory_bytes{{{_OF}, kind="total"}}'
    exhausted = f'device_memory_exhausted_total{{{OF_MODEL}, instance=~"$instance"}}'
    return [
        lines(
            "GPU memory",
            "Share of the GPU memory in use by all processes; absent on CPU.",
            "percentunit",
            {"{{instance}} {{device}}": f"{used} / ignoring (kind) {total}"},
            limits=((0.92, BAD),),
            share=True,
        ),
        lines(
            "GPU busy",
            "Share of time in which the GPU was busy; absent on CPU.",
            "percentunit",
            {"{{instance}} {{device}}": f"device_utilisation_ratio{{{_OF}}}"},
            share=True,
        ),
        lines(
            "Batches that did not fit",
            "Batches that ran out of device memory; each lowers the model's largest batch size.",
            "cps",
            {"{{model}}": f"sum by (model) (rate({exhausted}{RATE}))"},
        ),
    ]


def _redis() -> list[AnyPanel]:
    lookups = f'response_cache_lookups_total{{{_OF}, level="redis"}}'
    waits = f"rate(response_cache_redis_seconds_bucket{{{_OF}}}{RATE})"
    return [
        lines(
            "Redis circuit breaker",
            "1 while a replica does not query Redis after repeated errors.",
            "none",
            {"{{instance}}": f"response_cache_breaker_open{{{_OF}}}"},
            limits=((1, BAD),),
        ),
        lines(
            "Look-ups in Redis",
            "By result. `error`: no reply in time; `rejected`: the value was invalid or not "
            "authentic.",
            "cps",
            {"{{result}}": f"sum by (result) (rate({lookups}{RATE}))"},
            stacked=True,
        ),
        lines(
            "Wait for Redis",
            "Time an item waited for its look-up; at most the configured timeout.",
            "s",
            quantiles(waits),
            limits=((0.02, WARN),),
        ),
        lines(
            "Writes dropped",
            "Answers not written to Redis: it was unreachable or refused them, or the write "
            "queue was full.",
            "cps",
            {"{{instance}}": f"rate(response_cache_writes_dropped_total{{{_OF}}}{RATE})"},
        ),
        lines(
            "Answers in memory",
            "Entries in each replica's memory cache.",
            "none",
            {"{{instance}}": f"response_cache_entries{{{_OF}}}"},
        ),
        lines(
            "Memory of the cache",
            "Size of those entries.",
            "bytes",
            {"{{instance}}": f"response_cache_bytes{{{_OF}}}"},
        ),
    ]
