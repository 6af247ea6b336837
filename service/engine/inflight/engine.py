"""In-flight batching: works join a running batch at any step, and leave it at their last.

An engine stands where a batcher stands: `submit` makes the same promises. It has one queue and
some instances, each with rows of its own. An instance takes a device slot for a turn: a short
while in which one of the device's threads makes step after step and lets works in and out
between them. Then it goes to the end of the line, so that other models get their share.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from math import inf

from service.engine.curve import BatchCurve
from service.engine.inflight.policy import Candidate
from service.engine.inflight.scheduler import Entry, InFlight, Instance, Scheduler, Watch
from service.engine.inflight.step_loop import StepLoop, UseSessions, drive
from service.engine.policy import BatchLimits
from service.engine.preprocess import PreprocessQueue
from service.engine.queue import BatcherStatistics, DrainRate, ItemResult, Slots, as_service_error
from service.engine.running import GRACE_SECONDS, OBEYS_SECONDS, Overdue
from service.errors import DeadlineExceededError, OverloadedError, ServiceError, ShuttingDownError
from service.telemetry.meters import NullMeter, StepReport
from service.types import PreparedItem

RunTurn = Callable[[StepLoop], Awaitable[None]]

_READ_BETWEEN_STEPS = 512
"""Most tokens that newcomers may have together: reading them takes about as long as ten steps,
which those who are running wait for. Where nobody is, more at once would gain nothing either, and
what the encoder makes of a token is kept until the step: 24 KiB for a translator 512 wide."""


_IDLE_SECONDS = 60.0
"""After which rows give their memory back: 85 MiB for 32 rows of a translator 512 wide. Getting it
again takes a few milliseconds of the next works' time."""


@dataclass(frozen=True, slots=True)
class Instancing:
    """How an engine uses its device."""

    count: int
    """Instances, each with rows of its own."""
    most_rows: int
    """Of an instance."""
    slots: Slots
    use: UseSessions
    run_turn: RunTurn


class InFlightEngine:
    """One queue in front of the instances of one model."""

    def __init__(
        self,
        model: InFlight,
        instancing: Instancing,
        limits: BatchLimits,
        meter: NullMeter,
        curve: BatchCurve | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model, self._device, self._limits = model, instancing, limits
        self._overdue = Overdue(instancing.slots, meter)
        self._look: asyncio.TimerHandle | None = None
        self.meter, self._clock = meter, clock
        self.curve = curve or BatchCurve.proportional()
        self.incoming: PreprocessQueue | None = None  # who is in it has a place here already
        seats = [Instance(model.open_rows()) for _ in range(instancing.count)]
        budget = min(limits.max_batch_cost or _READ_BETWEEN_STEPS, _READ_BETWEEN_STEPS)
        self._desk = Scheduler(seats, instancing.most_rows, budget)
        self._arrival = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._servers: dict[asyncio.Task[None], Instance] = {}
        self._expiry: asyncio.TimerHandle | None = None
        self._next_expiry = inf
        self._accepting = False
        self._answered = self._executed = 0
        self._rate = DrainRate()
        self._unanswered_seconds = 0.0
        """Of turns since the last one in which a work was done."""

    def __repr__(self) -> str:
        return f"<InFlightEngine {self._desk.pending} waiting, {self._desk.running} running>"

    def statistics(self) -> BatcherStatistics:
        """Return what is queued, how many instances are busy, and what was done."""
        desk = self._desk
        busy = sum(bool(seat.running) for seat in desk.seats)
        return BatcherStatistics(
            self._pending,
            busy,
            self._answered,
            self._executed,
            desk.most_rows,
            self._overdue.count,
        )

    @property
    def meter(self) -> NullMeter:
        """Where it reports what it does."""
        return self._meter

    @meter.setter
    def meter(self, meter: NullMeter) -> None:
        self._meter = self._overdue.meter = meter

    @property
    def _pending(self) -> int:
        return self._desk.pending + (self.incoming.pending if self.incoming else 0)

    @property
    def rows_in_use(self) -> int:
        """Return how many rows works may come to take now."""
        return sum(seat.used_rows for seat in self._desk.seats)

    @property
    def window(self) -> int:
        """Return how many works keep it busy and leave rows to others: half of what it holds."""
        return self._limits.window(self._device.count / 2)

    def start(self) -> None:
        """Begin to take works in. Call once, on the running loop."""
        self._accepting = True
        loop = asyncio.get_running_loop()
        self._servers = {loop.create_task(self._serve(seat)): seat for seat in self._desk.seats}

    async def stop(self, grace: float) -> int:
        """Refuse new works, give accepted ones `grace` seconds, then turn the rest away.

        Returns:
            How many turns were told to stop and go on; each holds its slot until it ends.
        """
        self._accepting = False
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            pass
        self._desk.is_closing = True
        for server, seat in self._servers.items():
            if seat.stop is None:
                server.cancel()
        # A turn ends by itself, after the step it is in; a step that lasts must be stopped.
        going_on = await self._still_serving(GRACE_SECONDS)
        for server in going_on:
            self._stop_turn(self._servers[server])
        going_on = await self._still_serving(OBEYS_SECONDS)
        self._servers.clear()  # they refer to this object
        self._fail(self._desk.everybody(), ShuttingDownError("the model was stopped"))
        self._expire_at(inf)
        if self._look is not None:
            self._look.cancel()
        return len(going_on)

    async def _still_serving(self, patience: float) -> set[asyncio.Task[None]]:
        """Wait until every server has ended; return those that have not in time."""
        if not self._servers:
            return set()
        return (await asyncio.wait(self._servers, timeout=patience))[1]

    async def submit(
        self,
        work: PreparedItem,
        deadline: float | None = None,
        priority: int = 0,
        watch: Watch | None = None,
    ) -> ItemResult:
        """Queue one work and wait for its result.

        `deadline` is an absolute loop time; `watch` is told, after each step, what there is.

        Raises:
            OverloadedError: the queue is full; says when to come back.
            DeadlineExceededError: it cannot be, or was not, done in time.
            ShuttingDownError: the engine is stopping.
            InferenceError: the model failed on this work.
            DeviceMemoryError: the device has no memory even for this work alone.
        """
        loop = asyncio.get_running_loop()
        now = loop.time()
        until = inf if deadline is None else deadline
        self.check_room()
        if now + self.curve.seconds(1, 1) > until:  # how long a translation becomes, nobody knows
            raise DeadlineExceededError("the deadline is too near for this item")
        seen = Candidate((-priority, until, now), self._model.rows_for(work), work.length)
        entry = Entry(work, seen, until, self._clock(), loop.create_future(), watch)
        self._desk.add(entry)
        self._idle.clear()
        self._arrival.set()
        if until < self._next_expiry:
            self._expire_at(until)
        try:
            return await entry.result  # a cancelled caller cancels this future, nothing else
        except asyncio.CancelledError:
            self._look_soon()
            raise
        finally:
            self._desk.remove(entry)
            self._note_idle()
            del entry  # its future may hold an exception, which would keep this frame

    def check_room(self) -> None:
        """Refuse early, before a work is made, what `submit` would refuse at this moment.

        Raises:
            OverloadedError: the queue is full; says when to come back.
            ShuttingDownError: the engine is stopping.
        """
        if not self._accepting:
            raise ShuttingDownError("the model is stopping")
        if self._pending >= self._limits.max_queue_size:
            wait = self._rate.retry_after(self._pending, self.incoming, self._device.count)
            raise OverloadedError(f"{self._pending} items already wait", wait)

    def _note_idle(self) -> None:
        if self._desk.is_idle:
            self._idle.set()

    def _fail(self, entries: list[Entry], error: ServiceError) -> None:
        for entry in entries:
            self._desk.remove(entry)
            entry.fail(error)

    def _expire_at(self, when: float) -> None:
        """Keep one timer, for the earliest deadline."""
        if self._expiry is not None:
            self._expiry.cancel()
        self._next_expiry = when
        loop = asyncio.get_running_loop()
        self._expiry = None if when == inf else loop.call_at(when, self._expire)

    def _expire(self) -> None:
        """Fail who is too late, waiting or running, and look ahead to who is next."""
        now = asyncio.get_running_loop().time()
        late = [entry for entry in self._desk.everybody() if entry.deadline <= now]
        self._fail(late, DeadlineExceededError("the deadline passed before the answer"))
        self._look_soon()
        self._expire_at(self._desk.next_deadline())

    def _look_soon(self) -> None:
        """After the grace, stop the turns whose works nobody waits for."""
        if self._look is None and self._desk.running:
            self._look = asyncio.get_running_loop().call_later(GRACE_SECONDS, self._stop_abandoned)

    def _stop_abandoned(self) -> None:
        self._look = None
        for seat in self._desk.abandoned():
            self._stop_turn(seat)

    def _stop_turn(self, seat: Instance) -> None:
        if seat.stop is not None and not seat.stop.is_set:
            seat.stop.set()
            self._overdue.tell(seat.stop)

    async def _serve(self, seat: Instance) -> None:
        slots = self._device.slots
        while not self._desk.is_closing:
            while not seat.running and not self._desk.pending:
                await self._await_arrival(seat)
            await slots.acquire()
            try:
                await self._take_turn(seat)
            finally:
                slots.release()
                self._note_idle()

    async def _await_arrival(self, seat: Instance) -> None:
        """Wait for a work; a seat that waits for long gives its rows' memory back meanwhile."""
        self._arrival.clear()
        try:
            async with asyncio.timeout(_IDLE_SECONDS):
                await self._arrival.wait()
        except TimeoutError:
            if not seat.running and not self._desk.pending:
                seat.rows.reset()
            await self._arrival.wait()

    async def _take_turn(self, seat: Instance) -> None:
        loop, slots = asyncio.get_running_loop(), self._device.slots
        turn = StepLoop(
            self._desk,
            seat,
            self._device.use,
            lambda: slots.free + 1 >= slots.count,
            self._clock,
            loop.call_soon_threadsafe,
        )
        started = self._clock()
        seat.stop = turn.stop
        try:
            await self._device.run_turn(turn)
        except Exception as error:  # a bug here must not leave everybody waiting
            running = list(seat.running)
            self._desk.leave(seat, running)
            seat.rows.reset()
            self._fail(running, as_service_error(error))
        finally:
            seat.stop = None
            self._overdue.end(turn.stop)
        self._account(turn.report, self._clock() - started)
        if not turn.report.steps:
            await asyncio.sleep(0)  # who waited has left, and must be let go of

    def _account(self, report: StepReport, seconds: float) -> None:
        self._answered += len(report.computed)
        self._executed += report.steps
        self._unanswered_seconds += seconds
        if report.computed:
            self._rate.note(self._unanswered_seconds / len(report.computed))
            self._unanswered_seconds = 0.0
        self.meter.turn(report)


async def _run_on(threads: Executor, turn: StepLoop) -> None:
    await asyncio.get_running_loop().run_in_executor(threads, drive, turn)


def turns_on(threads: Executor) -> RunTurn:
    """Return what runs turns on the device's threads."""
    return partial(_run_on, threads)
