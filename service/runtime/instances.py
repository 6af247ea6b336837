"""One loaded version on one device: its sessions, and the threads that run them."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from service.errors import DeviceMemoryError
from service.runtime.graphs import Graph
from service.runtime.providers import Device
from service.runtime.session import OrtSession, PoisonedSessionError
from service.types import PreparedItem, Session, Sessions, Tensors

T = TypeVar("T")

Infer: TypeAlias = Callable[[Sessions, Sequence[PreparedItem]], Sequence[Tensors]]
OpenSession: TypeAlias = Callable[[Graph, Device, int], Session]
Clock: TypeAlias = Callable[[], float]


class Instances:
    """The sessions of a version, twice where that pays.

    *Narrow* sessions compute on one thread (or few) and are run by several callers at once:
    the best throughput when the device is busy. *Wide* ones take all of a CPU's threads for a
    lone request. `keep_wide(False)` drops the second set when warm-up finds that it does not help.
    """

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        device: Device,
        threads: tuple[int, int],
        open_session: OpenSession = OrtSession,
    ) -> None:
        """Open every graph. `threads` is (narrow, wide). Raises ModelLoadError."""
        self._graphs, self._device, self._open_session = graphs, device, open_session
        self._threads = threads
        self._lock = threading.Lock()
        self.rebuilds = 0
        self.narrow: Sessions = self._open(threads[0])
        has_wide = device.kind == "cpu" and threads[1] > threads[0]
        self.wide: Sessions | None = self._open(threads[1]) if has_wide else None

    def __repr__(self) -> str:
        width = "narrow and wide" if self.wide else "narrow"
        return f"<Instances of {', '.join(self._graphs)} on {self._device}, {width}>"

    @property
    def clock(self) -> Clock:
        """Return what times a run on the narrow sessions best.

        One that computes on the calling thread alone is timed by that thread's processor time,
        which whatever else the machine is doing does not lengthen.
        """
        alone = self._device.kind == "cpu" and self._threads[0] == 1
        return time.thread_time if alone else time.perf_counter

    def keep_wide(self, wanted: bool) -> None:
        """Keep, or drop, the sessions that take the whole device."""
        if not wanted:
            self.wide = None

    def infer(self, infer: Infer, batch: Sequence[PreparedItem], alone: bool) -> Sequence[Tensors]:
        """Run a batch on this thread; reopen the sessions first if an earlier run broke them.

        Raises:
            InferenceError: the model failed; also when it broke, after which the next run works.
            DeviceMemoryError: the device has no memory for this batch.
        """
        return self.use(lambda sessions: infer(sessions, batch), alone)

    def use(self, act: Callable[[Sessions], T], alone: bool) -> T:
        """Act with the sessions on this thread; reopen them if an earlier run broke them.

        Raises:
            InferenceError: the model failed; also when it broke, after which the next run works.
            DeviceMemoryError: the device has no memory for what it was asked.
        """
        sessions = self.wide if alone and self.wide else self.narrow
        try:
            return act(sessions)
        except PoisonedSessionError:
            self._rebuild(sessions)
            raise
        except MemoryError as error:  # of numpy, beside the graphs
            raise DeviceMemoryError("no memory left for the batch") from error

    def _rebuild(self, broken: Sessions) -> None:
        with self._lock:
            if broken is self.narrow:
                self.narrow = self._open(self._threads[0])
                self.rebuilds += 1
            elif broken is self.wide:
                self.wide = self._open(self._threads[1])
                self.rebuilds += 1

    def _open(self, threads: int) -> Sessions:
        return {
            name: self._open_session(graph, self._device, threads)
            for name, graph in self._graphs.items()
        }
