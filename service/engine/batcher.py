"""Forms batches of waiting items and hands each caller its result."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from service.engine.curve import SHORT_SECONDS, BatchCurve
from service.engine.dispatch import BatchResult, Inline, RunBatch
from service.engine.engine import EngineStatistics, ItemResult, Watch
from service.engine.fairness import VirtualTime, fair_order
from service.engine.policy import BatchLimits, Dispatch, Wait, by_urgency, decide
from service.engine.preprocess import PreprocessQueue
from service.engine.queue import BatchTable, Entry, RequestQueue
from service.engine.slots import Overdue, Slots, Usage
from service.errors import DeviceMemoryError, ShuttingDownError, as_inference_error
from service.runtime.stopping import RunStoppedError
from service.telemetry.meters import Meter
from service.types import PreparedItem, Share

# An item of an owner with few of them runs in a batch that takes at most this many times as long as
# the item would take without others.
_LIGHT = 2.0


class Batcher:
    """An engine that runs items in batches.

    One task forms a batch whenever the device has a free slot and an item waits. Batches form
    while earlier ones run, so a device never idles while work waits (work-conserving), unless a
    queue delay is set.
    """

    streams_partial_results = False

    def __init__(  # noqa: PLR0913 - the last four have defaults
        self,
        run_batch: RunBatch,
        limits: BatchLimits,
        slots: Slots,
        meter: Meter,
        curve: BatchCurve | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        inline: Inline | None = None,
        incoming: PreprocessQueue | None = None,
    ) -> None:
        """Make a batcher that refuses everything until `start`.

        Args:
            run_batch: runs a batch.
            limits: of a batch and of the queue.
            slots: the right to compute on the device.
            meter: counts what is done.
            curve: how long batches take.
            clock: for measured times; an event loop's own may tick in whole milliseconds.
            inline: runs a lone short item on the event loop's thread; None never does.
            incoming: items of this lane that are being preprocessed.
        """
        self._run_batch, self._limits, self._slots = run_batch, limits, slots
        self._meter, self._clock = meter, clock
        self._inline = None if limits.max_queue_delay else inline
        self.curve = curve or BatchCurve.proportional()
        self._overdue = Overdue(slots, meter)
        self._table = table = BatchTable(self._overdue)
        self._waiting = table.waiting
        self._queue = RequestQueue(
            table, limits, self.curve, slots.threads, incoming, table.stop_abandoned_soon
        )
        self._ceiling = limits.max_batch_size
        self._arrival = asyncio.Event()
        self._former: asyncio.Task[None] | None = None
        self._answered = self._executed = 0
        self._usage = Usage()
        self._is_inline_due = False
        self._time: VirtualTime | None = None
        """Shares the engine between owners; None until an item has one."""

    def __repr__(self) -> str:
        return f"<Batcher {self._table.pending} waiting, {self._table.running} running>"

    def statistics(self) -> EngineStatistics:
        """Return what is queued, what runs, and what was done."""
        return EngineStatistics(
            self._queue.pending,
            self._table.running,
            self._answered,
            self._executed,
            self._ceiling,
            self._overdue.count,
            most_pending=self._limits.max_queue_size,
            backlog_seconds=self._queue.backlog_seconds,
        )

    @property
    def window(self) -> int:
        """Return how many items keep it busy: a batch that runs, and one that waits."""
        return self._limits.window(2)

    def check_room(self, share: Share | None = None) -> None:
        """Raise what `submit` would raise now."""
        self._queue.check_room(share)

    def start(self) -> None:
        """Begin to accept items and to form batches."""
        self._queue.start()
        self._former = asyncio.get_running_loop().create_task(self._form_batches())

    async def stop(self, grace: float) -> int:
        """Stop as `Engine.stop` promises; return how many batches have not ended."""
        await self._queue.stop(grace)
        if self._former is not None:
            self._former.cancel()
            await asyncio.wait([self._former])
            self._former = None  # the task refers to this object
        self._queue.close(ShuttingDownError("the model was stopped before it answered this item"))
        return await self._table.stop()

    async def submit(
        self,
        prepared: PreparedItem,
        deadline: float | None = None,
        priority: int = 0,
        watch: Watch | None = None,
        share: Share | None = None,
    ) -> ItemResult:
        """Queue one item and wait for its result, as `Engine.submit` promises."""
        # The entry must not be a local variable here: see `RequestQueue.result_of`.
        return await self._queue.result_of(self._enqueue(prepared, deadline, priority, share))

    def _enqueue(
        self, prepared: PreparedItem, deadline: float | None, priority: int, share: Share | None
    ) -> Entry:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._queue.admit(prepared.length, deadline, now, share)
        until = inf if deadline is None else deadline
        urgency = (-priority, until, now)
        entry = Entry(prepared, urgency, until, self._clock(), loop.create_future(), share)
        if share is not None and self._time is None:
            self._time = VirtualTime()
        self._waiting[entry] = None
        inline = self._inline
        if inline is None or prepared.length > inline.longest or self._table.running:
            self._arrival.set()
        elif len(self._waiting) == 1 and not self._is_inline_due:
            self._is_inline_due = True
            loop.call_soon(self._run_inline, inline)  # with those that arrive in this turn
        elif not self._is_inline_due:
            self._arrival.set()
        return entry

    def _run_inline(self, inline: Inline) -> None:
        """Run what waits on this thread, if it is one short item: no task, slot or other thread.

        While batches of other models use all threads it may be as many items as are short together.
        """
        self._is_inline_due = False
        waiting, slots = list(self._waiting), self._slots
        if not waiting:  # they have left, or are in a batch
            return
        longest = max(entry.prepared.length for entry in waiting)
        is_short = longest <= inline.longest and not self._table.running
        if len(waiting) > 1:
            most = min(self._ceiling, self.curve.rows_within(SHORT_SECONDS, longest))
            is_short &= slots.running == slots.threads and len(waiting) <= most
        if not is_short:
            self._arrival.set()
        elif slots.free < slots.count and (pause := slots.inline_pause()):
            self._is_inline_due = True
            asyncio.get_running_loop().call_later(pause, self._run_inline, inline)
        else:
            self._run_here(waiting, longest, inline)

    def _run_here(self, batch: Sequence[Entry], longest: int, inline: Inline) -> None:
        self._waiting.clear()
        try:
            ran = inline.run([entry.prepared for entry in batch])
            self._slots.inline_seconds += ran.seconds
            if self._slots.free < self._slots.count:  # which made it take longer than it should
                self._slots.pause_inline(self.curve.computation(len(batch), longest))
            self._deliver(batch, ran)
        except Exception as error:  # as in `_run`
            if len(batch) == 1 and not isinstance(error, RunStoppedError):
                self._note_failure(batch, error)
            else:  # it blocked the event loop, or one of several is at fault: again, on a thread
                self._waiting.update(dict.fromkeys(batch))
                self._arrival.set()
        self._queue.note_idle()

    async def _form_batches(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrival_until(None)
            await self._slots.acquire(self._usage, bool(self._table.running))
            if self._slots.free + 1 < self._slots.count:
                await asyncio.sleep(0)  # the device is busy: first read requests that have arrived
            try:
                decision = self._decide(loop.time())
            except Exception as error:  # a bug in the policy must not leave callers waiting
                self._slots.release()
                self._queue.fail(list(self._waiting), as_inference_error(error))
                continue
            match decision:
                case Dispatch(indices):
                    self._launch(indices)  # which keeps no item alive in this frame
                case Wait(until):
                    self._slots.release()
                    await self._arrival_until(until)

    def _decide(self, now: float) -> Dispatch | Wait:
        self._queue.expire(now)
        limits = self._limits
        if self._ceiling < limits.max_batch_size:
            limits = replace(limits, max_batch_size=self._ceiling)
        # A batch formed ahead has no thread of its own to share the work with.
        free = min(self._slots.free + 1, self._slots.threads)
        waiting = list(self._waiting)
        if self._time is None:
            return decide(limits, self.curve, waiting, now, free)
        return self._decide_fairly(self._time, limits, waiting, now, free)

    def _decide_fairly(
        self,
        time: VirtualTime,
        limits: BatchLimits,
        waiting: Sequence[Entry],
        now: float,
        free: int,
    ) -> Dispatch | Wait:
        """Decide as `_decide`, with the owner that is furthest behind first."""
        costs = self.curve.best_costs([entry.prepared.length for entry in waiting])
        begins = time.begins(waiting)
        order = fair_order(by_urgency(waiting), waiting, costs, begins)
        if order and len(begins) > 1:
            first = waiting[order[0]]
            if self._queue.holdings.is_light(first.share):
                length = first.prepared.length
                order = [i for i in order if waiting[i].prepared.length <= length]
                most = self.curve.rows_within(_LIGHT * self.curve.seconds(1, length), length)
                limits = replace(limits, max_batch_size=min(limits.max_batch_size, most))
        decision = decide(limits, self.curve, waiting, now, free, order)
        if isinstance(decision, Dispatch):
            for index in decision.indices:
                time.charge(waiting[index].share, costs[index])
        return decision

    async def _arrival_until(self, until: float | None) -> None:
        """Return on the next arrival or at `until`; with None, at once if an item waits."""
        if until is None and self._waiting:
            return
        self._arrival.clear()
        try:
            async with asyncio.timeout_at(until):
                await self._arrival.wait()
        except TimeoutError:
            return

    def _launch(self, indices: Sequence[int]) -> None:
        waiting = list(self._waiting)
        batch = [waiting[index] for index in indices]
        for entry in batch:
            del self._waiting[entry]
        exclusive = self._slots.free + 1 == self._slots.count and not self._waiting
        task = asyncio.get_running_loop().create_task(self._run(batch, exclusive))
        self._table.add(task, batch)
        task.add_done_callback(self._finish)

    def _finish(self, task: "asyncio.Task[None]") -> None:
        batch = self._table.pop(task)
        self._slots.release()
        for entry in batch:  # those that a stop left without an answer
            entry.fail(ShuttingDownError("the model was stopped during this item's batch"))
        self._queue.note_idle()

    async def _run(self, batch: Sequence[Entry], exclusive: bool) -> None:
        """Run a batch; if it fails, run its halves, until only the items at fault fail."""
        try:
            ran = await self._run_batch([entry.prepared for entry in batch], exclusive)
            self._deliver(batch, ran)
        except Exception as error:  # whatever it is, every caller of the batch must get it
            await self._recover(batch, error)

    def _deliver(self, batch: Sequence[Entry], ran: BatchResult) -> None:
        pairs = list(zip(batch, ran.results, strict=True))  # checked before any answer
        for entry, result in pairs:
            queued = ran.started - entry.queued_at
            entry.succeed(ItemResult(result, queued, ran.seconds, len(batch)))
        asyncio.get_running_loop().call_soon(self._account, batch, ran)  # after the answers

    def _note_failure(self, batch: Sequence[Entry], error: Exception) -> None:
        if isinstance(error, DeviceMemoryError):
            self._meter.memory_exhausted()
            self._ceiling = max(1, min(self._ceiling, len(batch) // 2))
        if len(batch) == 1:
            self._meter.isolated()
            batch[0].fail(as_inference_error(error))

    async def _recover(self, batch: Sequence[Entry], error: Exception) -> None:
        self._note_failure(batch, error)
        if len(batch) == 1:
            return
        middle = len(batch) // 2
        for half in (batch[:middle], batch[middle:]):
            if staying := [entry for entry in half if not entry.has_left]:
                await self._run(staying, exclusive=False)

    def _account(self, batch: Sequence[Entry], ran: BatchResult) -> None:
        self._usage.seconds += ran.seconds
        self._answered += len(batch)
        self._executed += 1
        lengths = [entry.prepared.length for entry in batch]
        expected = self.curve.computation(len(batch), max(lengths))
        self._queue.pace.note(ran.seconds, expected, len(batch))
        self._meter.batch(
            lengths,
            [ran.started - entry.queued_at for entry in batch],
            ran.seconds,
        )
