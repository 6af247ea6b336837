"""A gauge and a counter that ask for their value when they are read."""

from collections.abc import Callable, Iterable

from prometheus_client import Counter, Gauge
from prometheus_client.samples import Sample


class LiveGauge(Gauge):
    """A gauge for `set_function` whose series are freed when they are removed.

    A series of prometheus_client's own stores a method of itself, so that only the garbage
    collector would free it, and whatever its function refers to.
    """

    _read: Callable[[], float] | None = None

    def set_function(self, f: Callable[[], float]) -> None:
        """Ask this function at every scrape; it may be called from several threads."""
        self._read = f

    def _child_samples(self) -> Iterable[Sample]:
        if self._read is None:
            return super()._child_samples()
        return (Sample("", {}, float(self._read()), None, None),)


class LiveCounter(Counter):
    """A counter whose value a function returns."""

    _read: Callable[[], float] | None = None

    def set_function(self, f: Callable[[], float]) -> None:
        """Ask this function at every scrape; it must never return less than before."""
        self._read = f

    def _child_samples(self) -> Iterable[Sample]:
        if self._read is None:
            return super()._child_samples()
        return (Sample("_total", {}, float(self._read()), None, None),)
