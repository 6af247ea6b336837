"""In-flight batching: items join a running batch at any step and leave it at their last.

The engine has one queue and one or more instances, each with rows of its own. An instance takes a
device slot for one step loop: for a short while a device thread runs step after step, and items
join and leave between steps. Then the instance goes to the end of the line for slots, so that
other models get their share.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from math import inf

from service.engine.curve import BatchCurve
from service.engine.engine import EngineStatistics, ItemResult, Watch
from service.engine.inflight.scheduler import InFlight, Instance, Scheduler, StepEntry
from service.engine.inflight.step_loop import StepLoop, UseSessions, run
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.queue import GRACE_SECONDS, RequestQueue
from service.engine.slots import STOP_SECONDS, Overdue, Slots, Usage
from service.errors import ShuttingDownError, as_inference_error
from service.telemetry.meters import Meter, StepReport
from service.types import PreparedItem, Share

RunLoop = Callable[[StepLoop], Awaitable[None]]

# Most tokens prefilled between two steps. Prefilling them takes about as long as ten steps, for
# which running items wait; without running items a larger prefill would gain nothing. What the
# encoder computes for a token is kept until the step: 24 KiB for a translator 512 wide.
_PREFILL_TOKENS = 512

# Idle time after which rows free their memory (85 MiB for 32 rows of a translator 512 wide).
# Allocating it again takes the next items a few milliseconds.
_IDLE_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class InstanceOptions:
    """How an engine uses its device."""

    count: int
    """Number of instances."""
    most_rows: int
    """Rows of an instance."""
    slots: Slots
    use: UseSessions
    run_loop: RunLoop


class _LoopStopper:
    """Stops step loops, at once or when their callers have all left."""

    def __init__(self, scheduler: Scheduler, overdue: Overdue) -> None:
        self._scheduler, self._overdue = scheduler, overdue
        self._check: asyncio.TimerHandle | None = None

    def stop(self, instance: Instance) -> None:
        """Stop the loop an instance is in, if any."""
        if instance.stop is not None and not instance.stop.is_set:
            instance.stop.set()
            self._overdue.note_stop(instance.stop)

    def stop_abandoned_soon(self) -> None:
        """After `GRACE_SECONDS`, stop the loops whose callers have all left."""
        if self._check is None and self._scheduler.running:
            loop = asyncio.get_running_loop()
            self._check = loop.call_later(GRACE_SECONDS, self._stop_abandoned)

    def close(self) -> None:
        """Cancel a pending check."""
        if self._check is not None:
            self._check.cancel()

    def _stop_abandoned(self) -> None:
        self._check = None
        for instance in self._scheduler.abandoned():
            self.stop(instance)


class InFlightEngine:
    """An engine whose items join and leave a running batch between steps."""

    streams_partial_results = True

    def __init__(  # noqa: PLR0913 - the last three have defaults
        self,
        model: InFlight,
        device: InstanceOptions,
        limits: BatchLimits,
        meter: Meter,
        curve: BatchCurve | None = None,
        *,
        clock: Callable[[], float] = time.perf_counter,
        incoming: PreprocessQueue | None = None,
    ) -> None:
        """Make an engine that refuses everything until `start`.

        Args:
            model: opens rows.
            device: how it is used.
            limits: of a batch and of the queue.
            meter: counts what is done.
            curve: how long steps take.
            clock: for measured times; an event loop's own may tick in whole milliseconds.
            incoming: items of this lane that are being preprocessed.
        """
        self._model, self._device, self._limits = model, device, limits
        self._meter, self._clock = meter, clock
        self.curve = curve or BatchCurve.proportional()
        instances = [Instance(model.open_rows()) for _ in range(device.count)]
        budget = min(limits.max_batch_cost or _PREFILL_TOKENS, _PREFILL_TOKENS)
        self._scheduler = Scheduler(instances, device.most_rows, budget)
        self._overdue = Overdue(device.slots, meter)
        self._stopper = _LoopStopper(self._scheduler, self._overdue)
        self._queue = RequestQueue(
            self._scheduler,
            limits,
            self.curve,
            device.count,
            incoming,
            self._stopper.stop_abandoned_soon,
        )
        self._arrival = asyncio.Event()
        self._servers: dict[asyncio.Task[None], Instance] = {}
        self._usage = Usage()
        self._answered = self._executed = 0
        # Seconds of step loops since the last one in which an item was finished.
        self._unanswered_seconds = 0.0

    def __repr__(self) -> str:
        scheduler = self._scheduler
        return f"<InFlightEngine {scheduler.pending} waiting, {scheduler.running} running>"

    def statistics(self) -> EngineStatistics:
        """Return what is queued, how many instances are busy, and what was done."""
        instances = self._scheduler.instances
        return EngineStatistics(
            self._queue.pending,
            sum(bool(instance.running) for instance in instances),
            self._answered,
            self._executed,
            self._scheduler.most_rows,
            self._overdue.count,
            sum(instance.used_rows for instance in instances),
            self._limits.max_queue_size,
            self._queue.backlog_seconds,
        )

    @property
    def window(self) -> int:
        """Return how many items keep it busy and leave rows to others: half of what it holds."""
        return self._limits.window(self._device.count / 2)

    def check_room(self, share: Share | None = None) -> None:
        """Raise what `submit` would raise now."""
        self._queue.check_room(share)

    def start(self) -> None:
        """Begin to accept items and to run steps."""
        self._queue.start()
        loop = asyncio.get_running_loop()
        instances = self._scheduler.instances
        self._servers = {loop.create_task(self._serve(each)): each for each in instances}

    async def stop(self, grace: float) -> int:
        """Stop as `Engine.stop` promises; return how many step loops have not ended."""
        await self._queue.stop(grace)
        self._scheduler.is_closing = True
        for server, instance in self._servers.items():
            if instance.stop is None:
                server.cancel()
        # A loop ends by itself after the step it is in; a long step must be stopped.
        unfinished = await self._unfinished(GRACE_SECONDS)
        for server in unfinished:
            self._stopper.stop(self._servers[server])
        unfinished = await self._unfinished(STOP_SECONDS)
        self._servers.clear()  # the tasks refer to this object
        self._queue.close(ShuttingDownError("the model was stopped before it answered this item"))
        self._stopper.close()
        return len(unfinished)

    async def _unfinished(self, patience: float) -> set[asyncio.Task[None]]:
        """Wait until every server has ended; return those that have not in time."""
        if not self._servers:
            return set()
        return (await asyncio.wait(self._servers, timeout=patience))[1]

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
        return await self._queue.result_of(
            self._enqueue(prepared, deadline, priority, watch, share)
        )

    def _enqueue(
        self,
        prepared: PreparedItem,
        deadline: float | None,
        priority: int,
        watch: Watch | None,
        share: Share | None,
    ) -> StepEntry:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._queue.admit(1, deadline, now, share)  # how long a translation becomes is not known
        until = inf if deadline is None else deadline
        rows = self._model.rows_for(prepared)
        urgency = (-priority, until, now)
        result = loop.create_future()
        entry = StepEntry(prepared, urgency, until, self._clock(), result, share, rows, watch)
        self._scheduler.add(entry)
        self._arrival.set()
        return entry

    async def _serve(self, instance: Instance) -> None:
        slots = self._device.slots
        while not self._scheduler.is_closing:
            while not instance.running and not self._scheduler.pending:
                await self._await_arrival(instance)
            await slots.acquire(self._usage, bool(instance.running))
            started = self._clock()
            try:
                await self._run_loop(instance)
            finally:
                self._usage.seconds += self._clock() - started
                slots.release()
                self._queue.note_idle()

    async def _await_arrival(self, instance: Instance) -> None:
        """Wait for an item; free the rows' memory if none arrives for a while."""
        self._arrival.clear()
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._arrival.wait()
        except TimeoutError:
            if not instance.running and not self._scheduler.pending:
                instance.rows.reset()
            await self._arrival.wait()

    async def _run_loop(self, instance: Instance) -> None:
        loop, slots = asyncio.get_running_loop(), self._device.slots
        steps = StepLoop(
            self._scheduler,
            instance,
            self._device.use,
            lambda: slots.free + 1 >= slots.count,
            self._clock,
            loop.call_soon_threadsafe,
        )
        started = self._clock()
        instance.stop = steps.stop
        try:
            await self._device.run_loop(steps)
        except Exception as error:  # a bug in the loop must not leave callers waiting
            running = list(instance.running)
            self._scheduler.leave(instance, running)
            instance.rows.reset()
            self._queue.fail(running, as_inference_error(error))
        finally:
            instance.stop = None
            self._overdue.note_end(steps.stop)
        self._account(steps.report, self._clock() - started)
        if not steps.report.steps:
            await asyncio.sleep(0)  # lets the callers of items that have left remove them

    def _account(self, report: StepReport, seconds: float) -> None:
        self._answered += len(report.computed)
        self._executed += report.steps
        self._unanswered_seconds += seconds
        if report.computed:
            expected = sum(self.curve.best_costs(report.lengths))
            self._queue.pace.note(self._unanswered_seconds, expected, len(report.computed))
            self._unanswered_seconds = 0.0
        self._meter.steps(report)


async def _run_on(threads: Executor, steps: StepLoop) -> None:
    await asyncio.get_running_loop().run_in_executor(threads, run, steps)


def loops_on(threads: Executor) -> RunLoop:
    """Return a function that runs step loops on the device's threads."""
    return partial(_run_on, threads)
