"""A gauge and a counter that ask for their value when they are read."""

from collections.abc import Callable, Iterable

from prometheus_client import Counter, Gauge
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.samples import Sample


class _Live(MetricWrapperBase):
    """Reads its value from a function, which is freed with its series.

    A series of prometheus_client's own stores a method of itself, so that only the garbage
    collector would free it, and whatever its function refers to.
    """

    _suffix = ""
    _read: Callable[[], float] | None = None

    def set_function(self, f: Callable[[], float]) -> None:
        """Ask this function at every scrape; it may be called from several threads."""
        self._read = f

    def _child_samples(self) -> Iterable[Sample]:
        if self._read is None:
            return super()._child_samples()
        return (Sample(self._suffix, {}, float(self._read()), None, None),)


class LiveGauge(_Live, Gauge):
    """A gauge whose value a function returns, once it has `set_function`."""


class LiveCounter(_Live, Counter):
    """A counter whose value a function returns; it must never return less than before."""

    _suffix = "_total"
