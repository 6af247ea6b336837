"""One loaded version on one device: its sessions, and the threads that run them."""

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal, TypeAlias, TypeVar

from service.errors import DeviceMemoryError
from service.runtime.graphs import Graph
from service.runtime.ort_errors import PoisonedSessionError
from service.runtime.providers import Device
from service.runtime.session import KeepsMemory
from service.types import PreparedItem, Session, Sessions, Tensors

T = TypeVar("T")

Infer: TypeAlias = Callable[[Sessions, Sequence[PreparedItem]], Sequence[Tensors]]
Opens: TypeAlias = Callable[[Graph, Device, int], Session]
Clock: TypeAlias = Callable[[], float]


class Instances:
    """The sessions of a version, in two sets where that is faster.

    *Single-thread* sessions compute on one thread (or few) and are run by several callers at once:
    the best throughput when the device is busy. *Multi-thread* sessions use all of a CPU's threads
    for a single request. `keep_multi_thread(False)` drops the second set when warm-up finds that
    it does not help.
    """

    def __init__(
        self,
        graphs: Mapping[str, Graph],
        device: Device,
        threads: tuple[int, int],
        opens: Opens | None = None,
        multi_thread: bool = True,
        others: Mapping[str, Device] | None = None,
    ) -> None:
        """Open every graph.

        Args:
            graphs: by session name.
            device: where the sessions run.
            threads: of a single-thread and of a multi-thread session.
            opens: opens a session; by default the function of the device's provider.
            multi_thread: whether to open the multi-thread sessions now.
            others: sessions that run on another device than `device`, and which.

        Raises:
            ModelLoadError: a graph cannot be loaded.
        """
        self._graphs, self._device = graphs, device
        self.devices = {name: (others or {}).get(name, device) for name in graphs}
        """By session."""
        self._opens = opens or _open
        self._threads = threads
        self._lock = threading.Lock()
        self.rebuilds = 0
        self.single_thread: Sessions = self._open(threads[0])
        self.has_two = device.provider.our_threads and threads[1] > threads[0]
        self.multi_thread: Sessions | None = None
        if multi_thread:
            self.open_multi_thread()

    def __repr__(self) -> str:
        sets = "single-thread and multi-thread" if self.multi_thread else "single-thread"
        return f"<Instances of {', '.join(self._graphs)} on {self._device}, {sets}>"

    @property
    def clock(self) -> Clock:
        """Return the clock that measures a run on the single-thread sessions best.

        A run that computes on the calling thread only is measured by that thread's processor
        time, which does not depend on what else the machine is doing.
        """
        return time.thread_time if self._computes_on("caller") else time.perf_counter

    @property
    def warm_up_clock(self) -> Clock:
        """Return the clock that measures a run best while the process does nothing else.

        It is processor time also where the library has the thread that computes.
        """
        if self._computes_on("caller") or not self._computes_on("process"):
            return self.clock
        return time.process_time

    def _computes_on(self, place: Literal["caller", "process"]) -> bool:
        """Return whether each run computes on one thread: the caller's, or one of the process."""
        providers = [device.provider for device in self.devices.values()]
        return self._threads[0] == 1 and all(
            one.our_threads and (one.on_caller or place == "process") for one in providers
        )

    def open_multi_thread(self) -> None:
        """Open the multi-thread sessions, unless they are open or cannot be faster here."""
        if self.has_two and self.multi_thread is None:
            self.multi_thread = self._open(self._threads[1])

    def opened_on(
        self, device: Device | None, names: Iterable[str], multi_thread: bool = False
    ) -> Sessions:
        """Open some graphs once more, on a device; None is the one where each of them runs.

        Raises:
            ModelLoadError: the device cannot run a graph.
            DeviceUnavailableError: the device cannot be used.
        """
        threads = self._threads[multi_thread]
        return {
            name: self._opens(self._graphs[name], device or self.devices[name], threads)
            for name in names
        }

    def move(self, device: Device, sessions: Sessions) -> None:
        """Run these sessions, which `opened_on` has opened on the device, instead of the own ones.

        Drops the multi-thread sessions. Call it while nothing runs.
        """
        self.devices |= dict.fromkeys(sessions, device)
        self.single_thread = {**self.single_thread, **sessions}
        self.multi_thread = None

    def keep_multi_thread(self, wanted: bool) -> None:
        """Keep, or drop, the multi-thread sessions."""
        if not wanted:
            self.multi_thread = None

    def give_back(self, infer: Infer, item: PreparedItem) -> None:
        """Run an item on every session, which then keeps no memory of larger runs before it.

        A session that the item does not need gives its memory back after its next run.
        """
        for sessions in (self.single_thread, self.multi_thread):
            for session in (sessions or {}).values():
                if isinstance(session, KeepsMemory):
                    session.give_back_next()
            if sessions is not None:
                infer(sessions, [item])

    def infer(
        self, infer: Infer, batch: Sequence[PreparedItem], exclusive: bool
    ) -> Sequence[Tensors]:
        """Run a batch on this thread, on the multi-thread sessions if nothing else runs.

        Raises:
            InferenceError: the model failed. If that broke the session, the next run works again.
            DeviceMemoryError: the device has no memory for this batch.
        """
        return self.use(infer, exclusive, batch)

    def use(self, act: Callable[..., T], exclusive: bool, *arguments: object) -> T:
        """Call `act` with the sessions and the arguments on this thread; reopen what it breaks.

        `exclusive` says that nothing else runs on the device.

        Raises:
            InferenceError: the model failed. If that broke the session, the next run works again.
            DeviceMemoryError: the device has no memory for the call.
        """
        sessions = self.multi_thread if exclusive and self.multi_thread else self.single_thread
        try:
            return act(sessions, *arguments)
        except PoisonedSessionError:
            self._rebuild(sessions)
            raise
        except MemoryError as error:  # numpy's, outside the graphs
            raise DeviceMemoryError("no memory left for the batch") from error

    def _rebuild(self, broken: Sessions) -> None:
        with self._lock:
            if broken is self.single_thread:
                self.single_thread = self._open(self._threads[0])
                self.rebuilds += 1
            elif broken is self.multi_thread:
                self.multi_thread = self._open(self._threads[1])
                self.rebuilds += 1

    def _open(self, threads: int) -> Sessions:
        return {
            name: self._opens(graph, self.devices[name], threads)
            for name, graph in self._graphs.items()
        }


def _open(graph: Graph, device: Device, threads: int) -> Session:
    return device.provider.opens(graph, device, threads)
