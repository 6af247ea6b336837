"""The metrics of several processes as one exposition.

Counters and histograms are added. Of gauges the metric's `multiprocess_mode` says how they are
joined: their sum, their least or their greatest value.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from prometheus_client import REGISTRY, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import CollectorRegistry

Snapshot: TypeAlias = Mapping[str, Sequence[Any]]
"""Name of a metric -> type, help, mode, and samples: name, pairs of labels, value."""

COUNTERS: Mapping[str, str] = {
    "process_restarts": "Processes started in place of one that had ended.",
    "process_requests_retried": "Requests tried again because the process that had them ended.",
    "process_requests_lost": "Connections closed because the process that had them ended.",
}
"""Counters of the supervisor, and their help."""

_SUM, _LEAST, _GREATEST = "sum", "min", "max"
_ADDED_TYPES = frozenset({"counter", "histogram", "summary"})

_OF_THE_PROCESS: Mapping[str, str] = {
    "process_virtual_memory_bytes": _SUM,
    "process_resident_memory_bytes": _SUM,
    "process_open_fds": _SUM,
    "process_max_fds": _LEAST,
    "process_start_time_seconds": _LEAST,
}
"""Gauges of prometheus_client's own collectors."""


def snapshot(registry: CollectorRegistry = REGISTRY) -> Snapshot:
    """Return the values of this process. It takes milliseconds."""
    return {
        metric.name: (
            metric.type,
            metric.documentation,
            mode_of(metric, registry),
            [
                (sample.name, sorted(sample.labels.items()), sample.value)
                for sample in metric.samples
            ],
        )
        for metric in registry.collect()
    }


def mode_of(metric: Metric, registry: CollectorRegistry = REGISTRY) -> str:
    """Return how the values of several processes are joined: sum, min or max."""
    if metric.type in _ADDED_TYPES:
        return _SUM
    if metric.name in _OF_THE_PROCESS:
        return _OF_THE_PROCESS[metric.name]
    collector = registry._names_to_collectors.get(metric.name)
    mode = getattr(collector, "_multiprocess_mode", "")
    return (
        mode if isinstance(collector, MetricWrapperBase) and mode in (_SUM, _LEAST) else _GREATEST
    )


def merged(snapshots: Iterable[Snapshot]) -> Snapshot:
    """Return the values of several processes together."""
    found: dict[str, tuple[str, str, str, dict[Any, float]]] = {}
    for one in snapshots:
        for metric, (kind, documentation, mode, samples) in one.items():
            values = found.setdefault(metric, (kind, documentation, mode, {}))[3]
            for name, labels, value in samples:
                if value is not None:  # JSON has no number that is none
                    key = (name, tuple(map(tuple, labels)))
                    values[key] = _joined(mode, name, values.get(key), value)
    return {
        metric: (kind, documentation, mode, [(*key, value) for key, value in values.items()])
        for metric, (kind, documentation, mode, values) in found.items()
    }


def lasting(one: Snapshot) -> Snapshot:
    """Return what still counts of a process that has ended: all but its gauges."""
    return {name: metric for name, metric in one.items() if metric[0] in _ADDED_TYPES}


def _joined(mode: str, name: str, one: float | None, other: float) -> float:
    if one is None:
        return other
    if name.endswith("_created"):
        return min(one, other)
    return one + other if mode == _SUM else (min if mode == _LEAST else max)(one, other)


class Exposition(CollectorRegistry):
    """Metrics of all processes, in the form that prometheus_client's encoders read."""

    def __init__(self, values: Snapshot, processes: int, counts: Mapping[str, int]) -> None:
        """Take the joined values, how many processes serve, and the counts of the supervisor."""
        super().__init__()
        self._values, self._processes, self._counts = values, processes, counts

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics."""
        yield GaugeMetricFamily(
            "processes", "Processes that serve; server.processes when all do.", self._processes
        )
        for name, documentation in COUNTERS.items():
            counter = Metric(name, documentation, "counter")
            counter.add_sample(f"{name}_total", {}, self._counts.get(name, 0))
            yield counter
        for name, (kind, documentation, _, samples) in self._values.items():
            metric = Metric(name, documentation, kind)
            for sample, labels, value in samples:
                metric.add_sample(sample, dict(labels), value)
            yield metric
