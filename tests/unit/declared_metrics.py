"""The metrics that the service declares."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from prometheus_client.metrics import MetricWrapperBase

from service.telemetry import metrics, request_metrics, video_metrics


@dataclass(frozen=True, slots=True)
class DeclaredMetric:
    """A metric as listed in the documentation."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]


def declared_metrics() -> Sequence[DeclaredMetric]:
    """Return the metrics of the service, sorted by exposed name."""
    modules = (metrics, request_metrics, video_metrics)
    values = [value for module in modules for value in vars(module).values()]
    declared = (value for value in values if isinstance(value, MetricWrapperBase))
    described = chain.from_iterable(
        ((metric, family) for family in metric.describe()) for metric in declared
    )
    return sorted(
        (
            DeclaredMetric(
                family.name + ("_total" if family.type == "counter" else ""),
                family.type,
                family.documentation,
                tuple(metric._labelnames),
            )
            for metric, family in described
        ),
        key=lambda metric: metric.name,
    )
