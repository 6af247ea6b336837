"""A work in a batcher's queue, and whoever waits for it."""

import asyncio
from dataclasses import dataclass
from math import inf

from service.batching.measures import Done
from service.batching.policy import Waiting
from service.errors import InferenceError, ServiceError, kept
from service.types import Work


@dataclass(eq=False, slots=True)
class Entry:
    """What is known of a work between `submit` and its result."""

    work: Work
    seen: Waiting
    queued_at: float
    result: "asyncio.Future[Done]"

    @property
    def deadline(self) -> float:
        """Return the loop time by which it is useful; infinity if it always is."""
        return inf if self.seen.deadline is None else self.seen.deadline

    @property
    def has_left(self) -> bool:
        """Tell whether nobody waits for it any more."""
        return self.result.done()

    def succeed(self, done: Done) -> None:
        """Answer the caller."""
        if not self.result.done():  # the caller may have left
            self.result.set_result(done)

    def fail(self, error: ServiceError) -> None:
        """Tell the caller why there is no answer."""
        if not self.result.done():
            self.result.set_exception(kept(error))
            self.result.exception()  # a caller who is about to leave will not retrieve it


def as_service_error(error: Exception) -> ServiceError:
    """Return an error as one of ours."""
    if isinstance(error, ServiceError):
        return error
    failure = InferenceError(f"the model failed on this item: {error}")
    failure.__cause__ = kept(error)
    return failure
