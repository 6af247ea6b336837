"""Collects single works into batches and hands the results back."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from math import inf

from service.engine.curve import BatchCurve
from service.engine.inline import Inline
from service.engine.policy import BatchLimits, Dispatch, Wait, Waiting, decide
from service.engine.preprocess import PreprocessQueue
from service.engine.queue import (
    BatcherStatistics,
    BatchResult,
    DrainRate,
    Entry,
    ItemResult,
    Meter,
    Slots,
    as_service_error,
)
from service.engine.running import RunningBatches
from service.errors import (
    DeadlineExceededError,
    DeviceMemoryError,
    OverloadedError,
    ServiceError,
    ShuttingDownError,
)
from service.runtime.stopping import RunStoppedError
from service.types import PreparedItem

RunBatch = Callable[[Sequence[PreparedItem], bool], Awaitable[BatchResult]]
"""Runs a batch; the flag says that nothing else runs, so that it may take the whole device."""


class Batcher:
    """One queue in front of one lane of one model.

    `submit` may be called from any number of tasks. Between `start` and `stop` one task forms a
    batch whenever the device has a free slot and something waits; batches form while earlier
    ones run, so an idle device is never kept waiting (work-conserving) unless a queue delay is set.
    """

    def __init__(  # noqa: PLR0913 - the last two have their defaults
        self,
        run_batch: RunBatch,
        limits: BatchLimits,
        slots: Slots,
        meter: Meter,
        curve: BatchCurve | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        inline: Inline | None = None,
    ) -> None:
        # The clock measures what is reported; a loop's own may tick in whole milliseconds.
        self._clock = clock
        self._run_batch, self._limits, self._slots = run_batch, limits, slots
        self._inline = None if limits.max_queue_delay else inline
        self._running = RunningBatches(slots, meter)
        self.meter = meter
        self.curve = curve or BatchCurve.proportional()
        self.incoming: PreprocessQueue | None = None  # who is in it has a place here already
        self._ceiling = limits.max_batch_size
        self._waiting: dict[Entry, None] = {}
        self._arrival = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._former: asyncio.Task[None] | None = None
        self._expiry: asyncio.TimerHandle | None = None
        self._next_expiry = inf
        self._accepting = False
        self._answered = self._executed = 0
        self._rate = DrainRate()

    def __repr__(self) -> str:
        return f"<Batcher {len(self._waiting)} waiting, {len(self._running)} running>"

    def statistics(self) -> BatcherStatistics:
        """Return what is queued, what is on the device and what was done."""
        return BatcherStatistics(
            self._pending,
            len(self._running),
            self._answered,
            self._executed,
            self._ceiling,
            self._running.overdue.count,
        )

    @property
    def meter(self) -> Meter:
        """Where it reports what it does."""
        return self._meter

    @meter.setter
    def meter(self, meter: Meter) -> None:
        self._meter = self._running.overdue.meter = meter

    @property
    def _pending(self) -> int:
        return len(self._waiting) + (self.incoming.pending if self.incoming else 0)

    @property
    def window(self) -> int:
        """Return how many works keep it busy: a batch that runs, and one that waits."""
        return self._limits.window(2)

    def start(self) -> None:
        """Begin to form batches. Call once, on the running loop."""
        self._accepting = True
        self._former = asyncio.get_running_loop().create_task(self._form_batches())

    async def stop(self, grace: float) -> int:
        """Refuse new works, give accepted ones `grace` seconds, then turn the rest away.

        Returns:
            How many batches were told to stop and go on; each holds its slot until it ends.
        """
        self._accepting = False
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            pass
        if self._former is not None:
            self._former.cancel()
            await asyncio.wait([self._former])
            self._former = None  # which refers to this object
        self._fail_waiting(ShuttingDownError("the model was stopped before this item's turn"))
        for entry in self._running.entries():
            entry.fail(ShuttingDownError("the model was stopped during this item's batch"))
        self._expire_at(inf)
        return await self._running.stop()

    async def submit(
        self, work: PreparedItem, deadline: float | None = None, priority: int = 0
    ) -> ItemResult:
        """Queue one work and wait for its result.

        `deadline` is an absolute loop time.

        Raises:
            OverloadedError: the queue is full; says when to come back.
            DeadlineExceededError: it cannot be, or was not, done in time.
            ShuttingDownError: the batcher is stopping.
            InferenceError: the model failed on this work.
            DeviceMemoryError: the device has no memory even for this work alone.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._admit(work, deadline, now)
        seen = Waiting(work.length, now, deadline, priority, work.group)
        entry = Entry(work, seen, self._clock(), loop.create_future())
        self._waiting[entry] = None
        self._idle.clear()
        if self._inline and self._is_alone() and self._inline.takes(1, work.length):
            loop.call_soon(self._answer_lone, entry, self._inline)  # unless more comes meanwhile
        else:
            self._arrival.set()
        if entry.deadline < self._next_expiry:
            self._expire_at(entry.deadline)
        try:
            return await entry.result  # a cancelled caller cancels this future, nothing else
        except asyncio.CancelledError:
            self._running.look_soon()
            raise
        finally:
            self._remove(entry)
            del entry  # its future may hold an exception, which would keep this frame

    def check_room(self) -> None:
        """Refuse early, before a work is made, what `submit` would refuse at this moment.

        Raises:
            OverloadedError: the queue is full; says when to come back.
            ShuttingDownError: the batcher is stopping.
        """
        if not self._accepting:
            raise ShuttingDownError("the model is stopping")
        if self._pending >= self._limits.max_queue_size:
            wait = self._rate.retry_after(self._pending, self.incoming, self._slots.threads)
            raise OverloadedError(f"{self._pending} items already wait", wait)

    def _admit(self, work: PreparedItem, deadline: float | None, now: float) -> None:
        self.check_room()
        if deadline is not None and now + self.curve.seconds(1, work.length) > deadline:
            raise DeadlineExceededError("the deadline is too near for this item")

    def _is_alone(self) -> bool:
        """Tell whether one work waits, and nothing runs on the device."""
        return len(self._waiting) == 1 and self._slots.free == self._slots.count

    def _answer_lone(self, entry: Entry, inline: Inline) -> None:
        """Run the only work on this thread, without the way through the former and a thread."""
        if entry not in self._waiting:  # it has left, or is in a batch
            return
        if not self._is_alone():
            self._arrival.set()
            return
        del self._waiting[entry]
        try:
            self._deliver([entry], inline.run([entry.work]))
        except RunStoppedError:  # it kept this thread: again, on another
            self._waiting[entry] = None
            self._arrival.set()
        except Exception as error:  # as in `_run`
            self._note_failure([entry], error)
        self._note_idle()

    def _remove(self, entry: Entry) -> None:
        if entry in self._waiting:
            del self._waiting[entry]
            self._note_idle()

    def _expire_at(self, when: float) -> None:
        """Keep one timer, for the earliest deadline; one an item would cost each a microsecond."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._next_expiry = when
        loop = asyncio.get_running_loop()
        self._expiry = None if when == inf else loop.call_at(when, self._expire)

    def _expire(self) -> None:
        """Fail who is too late, waiting or running, and look ahead to who is next."""
        now = asyncio.get_running_loop().time()
        accepted = [*self._waiting, *self._running.entries()]
        for entry in accepted:
            if entry.deadline <= now:
                self._remove(entry)
                entry.fail(DeadlineExceededError("the deadline passed before the answer"))
        self._running.look_soon()
        self._expire_at(min((e.deadline for e in accepted if not e.has_left), default=inf))

    def _fail_waiting(self, error: ServiceError) -> None:
        for entry in list(self._waiting):
            self._remove(entry)
            entry.fail(error)

    def _note_idle(self) -> None:
        if not self._waiting and not self._running:
            self._idle.set()

    async def _form_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrival_until(None)
            await self._slots.acquire()
            if self._slots.free + 1 < self._slots.count:
                await asyncio.sleep(0)  # others run: first read the requests that already came
            try:
                decision = self._decide(loop.time())
            except Exception as error:  # a bug here must not leave everybody waiting
                self._slots.release()
                self._fail_waiting(as_service_error(error))
                continue
            match decision:
                case Dispatch(indices):
                    entries = list(self._waiting)
                    self._launch([entries[index] for index in indices])
                case Wait(until):
                    self._slots.release()
                    await self._arrival_until(until)

    def _decide(self, now: float) -> Dispatch | Wait:
        if now >= self._next_expiry:  # the loop is behind with its timers
            self._expire()
        limits = self._limits
        if self._ceiling < limits.max_batch_size:
            limits = replace(limits, max_batch_size=self._ceiling)
        waiting = [entry.seen for entry in self._waiting]
        # A batch formed ahead has no thread of its own to share the work with.
        free = min(self._slots.free + 1, self._slots.threads)
        return decide(limits, self.curve, waiting, now, free)

    async def _arrival_until(self, until: float | None) -> None:
        """Return at once when something waits (until is None), else on an arrival or in time."""
        if until is None and self._waiting:
            return
        self._arrival.clear()
        try:
            async with asyncio.timeout_at(until):
                await self._arrival.wait()
        except TimeoutError:
            return

    def _launch(self, batch: list[Entry]) -> None:
        for entry in batch:
            del self._waiting[entry]
        alone = self._slots.free + 1 == self._slots.count and not self._waiting
        task = asyncio.get_running_loop().create_task(self._run(batch, alone))
        self._running.add(task, batch)
        task.add_done_callback(self._finish)

    def _finish(self, task: "asyncio.Task[None]") -> None:
        batch = self._running.pop(task)
        self._slots.release()
        for entry in batch:  # only those whom a stop left without an answer
            entry.fail(ShuttingDownError("the model was stopped during this item's batch"))
        self._note_idle()

    async def _run(self, batch: Sequence[Entry], alone: bool) -> None:
        """Run a batch; on a failure retry its halves until only the guilty fail."""
        try:
            ran = await self._run_batch([entry.work for entry in batch], alone)
            self._deliver(batch, ran)
        except Exception as error:  # every caller of the batch must hear of it
            await self._recover(batch, error)

    def _deliver(self, batch: Sequence[Entry], ran: BatchResult) -> None:
        pairs = list(zip(batch, ran.results, strict=True))  # before anyone gets an answer
        for entry, result in pairs:
            queued = ran.started - entry.queued_at
            entry.succeed(ItemResult(result, queued, ran.seconds, len(batch)))
        asyncio.get_running_loop().call_soon(self._account, batch, ran)  # after the answers

    def _note_failure(self, batch: Sequence[Entry], error: Exception) -> None:
        if isinstance(error, DeviceMemoryError):
            self.meter.memory_exhausted()
            self._ceiling = max(1, min(self._ceiling, len(batch) // 2))
        if len(batch) == 1:
            self.meter.isolated()
            batch[0].fail(as_service_error(error))

    async def _recover(self, batch: Sequence[Entry], error: Exception) -> None:
        self._note_failure(batch, error)
        if len(batch) == 1:
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if staying := [entry for entry in half if not entry.has_left]:
                await self._run(staying, alone=False)

    def _account(self, batch: Sequence[Entry], ran: BatchResult) -> None:
        self._answered += len(batch)
        self._executed += 1
        self._rate.note(ran.seconds / len(batch))
        self.meter.batch(
            [entry.work.length for entry in batch],
            [ran.started - entry.queued_at for entry in batch],
            ran.seconds,
        )
