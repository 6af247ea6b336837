"""When a session gives back what its arena keeps.

ONNX Runtime's arena keeps, for ever, as much as its largest run needed: one burst of long texts,
or the largest batch of warm-up. A run can end by giving back what is not in use.
"""

import sys

import onnxruntime as ort

from service.runtime.devices import Device

_SMALLER_RUNS = 32
"""In a row, each with less than half of the largest input: then the rest is given back. Getting it
again costs a few milliseconds, so not after every burst."""


class ArenaWatch:
    """Compares the runs of a session with its largest. A lost race costs one run more."""

    def __init__(self, device: Device, *, is_bounded: bool = True) -> None:
        """Watch a session on a device; only those on a CPU give back.

        How much a run takes is not bounded by the size of its input in some graphs: those give
        back after every run.
        """
        self._gives_back = device.kind == "cpu"
        self.is_bounded = is_bounded
        self._largest = self._largest_since = self._smaller = 0

    def options(self, size: int) -> ort.RunOptions | None:
        """Return how to make a run with so many values of input; None is the usual way."""
        if not self.is_bounded:
            return _giving_back() if self._gives_back else None
        if 2 * size >= self._largest:
            self._largest = max(size, self._largest)
            self._largest_since = self._smaller = 0
            return None
        self._smaller += 1
        self._largest_since = max(size, self._largest_since)
        if self._smaller < _SMALLER_RUNS:
            return None
        self._largest = self._largest_since
        self._largest_since = self._smaller = 0
        return _giving_back() if self._gives_back else None

    def give_back_next(self) -> None:
        """Have the next run give back: the last one failed, for it needed more than there is."""
        self._largest, self._smaller = sys.maxsize, _SMALLER_RUNS


def _giving_back() -> ort.RunOptions:
    # Made for one run: options that several runs share could only stop all of them.
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options
