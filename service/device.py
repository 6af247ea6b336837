"""A device at work: its threads, and the right to use them, shared by all models on it."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from service.batching.dispatch import dispatch_seconds
from service.batching.slots import Slots
from service.runtime.devices import Device
from service.runtime.threads import step_back

_READY = 1
"""Batches formed ahead, so that a thread that ends one begins the next without the event loop:
5 % more of a DistilBERT-size classifier at 32 and 64 in flight (two cores, interleaved)."""


@dataclass(eq=False, slots=True)
class DeviceRuntime:
    """A device with its threads, shared by all models on it."""

    device: Device
    cores: int
    slots: Slots = field(init=False)
    compute: ThreadPoolExecutor = field(init=False)
    preprocess: ThreadPoolExecutor = field(init=False)
    texts: ThreadPoolExecutor = field(init=False)
    _dispatch: float | None = field(default=None, init=False)

    _MOST_BATCHES = 8

    def __post_init__(self) -> None:
        # On a GPU two batches at once: one computes while the other is collated and copied.
        count = min(self.cores, self._MOST_BATCHES) if self.device.kind == "cpu" else 2
        self.slots = Slots(count, _READY)
        self.compute = ThreadPoolExecutor(count, "compute", step_back)
        self.preprocess = ThreadPoolExecutor(max(1, self.cores), "preprocess")
        self.texts = ThreadPoolExecutor(1, "texts")  # which must not wait behind images

    @property
    def threads(self) -> tuple[int, int]:
        """Return the threads of a session when the device is shared, and when it is alone."""
        if self.device.kind != "cpu":
            return 1, 1
        return max(1, self.cores // self.slots.threads), self.cores

    async def dispatch(self) -> float:
        """Return the seconds a batch costs beside its computation; measured once."""
        if self._dispatch is None:
            self._dispatch = await dispatch_seconds(self.compute, self.slots)
        return self._dispatch

    def close(self) -> None:
        """Finish what runs, then end the threads."""
        self.compute.shutdown(wait=True, cancel_futures=True)
        self.preprocess.shutdown(wait=True, cancel_futures=True)
        self.texts.shutdown(wait=True, cancel_futures=True)
