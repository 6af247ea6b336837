"""A bound on vectors of tokens: a request for many long texts would take gigabytes."""

from dataclasses import dataclass
from typing import Any

from service.errors import LimitExceededError
from service.requests.answer import Ask, ask_pipeline
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request
from service.tasks import AnyItem

MOST_NUMBERS = 4_000_000
"""In the answers to one request: eight texts of 512 tokens with 1024 numbers each."""


@dataclass(slots=True)
class TokenVectors:
    """Asks a pipeline, and counts the numbers of the answers; make one for each request."""

    asks: Ask = ask_pipeline
    """Asks for one item."""
    numbers: int = 0

    async def ask(
        self, pipeline: Pipeline[Any, Any], item: AnyItem, request: Request
    ) -> Outcome[Any]:
        """Return the outcome of one item.

        Raises:
            LimitExceededError: the answers of the request have too many numbers with this one.
            ServiceError: the item could not be answered.
        """
        self._check(0)  # before the texts that still wait are computed
        outcome = await self.asks(pipeline, item, request)
        self._check(outcome.answer.vector.size)
        return outcome

    def _check(self, more: int) -> None:
        self.numbers += more
        if self.numbers > MOST_NUMBERS:
            raise LimitExceededError(
                f"the vectors of the tokens have more than {MOST_NUMBERS} numbers: send fewer texts"
            )
