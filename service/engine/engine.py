"""The engine seam: what runs one lane of one model, however it batches and wherever it runs.

Everything that crosses this seam is plain data, so an engine could run in another process; the
contract tests send all of it as bytes. `watch` is the only callable, and receives plain data.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeAlias

from service.engine.curve import BatchCurve
from service.types import PreparedItem, Share, Tensors

Watch: TypeAlias = Callable[[Tensors], None]
"""Receives an item's partial result after each decoding step."""


class ItemResult(NamedTuple):
    """The result of one item, and where its time went."""

    result: Tensors
    queue_seconds: float
    compute_seconds: float
    batch_size: int


class EngineStatistics(NamedTuple):
    """A snapshot of an engine, cheap enough to take on every scrape."""

    pending: int
    """Accepted items that have not started."""
    running: int
    """Batches on the device, or busy instances of an in-flight engine."""
    inference_count: int
    """Items answered."""
    execution_count: int
    """Batches or decoding steps run."""
    ceiling: int
    """Largest batch now allowed; below the limit after the device ran out of memory."""
    overdue: int = 0
    """Runs that were stopped and have not ended in time."""
    rows_in_use: int | None = None
    """Rows that running items may use; None for an engine that has no rows."""
    most_pending: int = 0
    """Items that may wait; further ones are refused."""
    backlog_seconds: float = 0.0
    """Expected time until the items that wait now have been computed."""


class Engine(Protocol):
    """One queue in front of one lane of one model.

    Limits, curve, meter and the lane's preprocessing queue are given when an engine is made.
    `submit` may be called from any number of tasks of the event loop that called `start`.
    """

    @property
    def curve(self) -> BatchCurve:
        """Return how long batches take, as measured during warm-up."""
        ...

    @property
    def streams_partial_results(self) -> bool:
        """Return whether `watch` is called; an engine that runs whole batches ignores it."""
        ...

    @property
    def window(self) -> int:
        """Return how many items one request should keep in progress to use the device fully."""
        ...

    def statistics(self) -> EngineStatistics:
        """Return what is queued, what runs, and what was done."""
        ...

    def start(self) -> None:
        """Start to compute. Call once, on the running event loop."""
        ...

    async def stop(self, grace: float) -> int:
        """Refuse new items, give accepted ones `grace` seconds, then fail the rest.

        Returns:
            The number of runs that were stopped but have not ended; each holds its slot until
            it ends.
        """
        ...

    def check_room(self, share: Share | None = None) -> None:
        """Raise what `submit` would raise now; called before an item is preprocessed.

        Args:
            share: the owner of the item.

        Raises:
            OverloadedError: the queue is full, or nearly full and the owner has its share of it;
                `retry_after` says when to try again.
            ShuttingDownError: the engine is stopping.
        """
        ...

    async def submit(
        self,
        prepared: PreparedItem,
        deadline: float | None = None,
        priority: int = 0,
        watch: Watch | None = None,
        share: Share | None = None,
    ) -> ItemResult:
        """Queue one item and wait for its result. Cancelling the call withdraws the item.

        Args:
            prepared: the item.
            deadline: time of the event loop's clock after which the result is useless.
            priority: items of higher priority run first.
            watch: receives partial results, if the engine streams them.
            share: the owner of the item; a busy engine is shared by weight between owners.

        Raises:
            OverloadedError: what `check_room` raises.
            DeadlineExceededError: the deadline passed, or is too close.
            ShuttingDownError: the engine is stopping.
            InferenceError: the model failed on this item.
            DeviceMemoryError: the device does not have the memory even for this item alone.
        """
        ...
