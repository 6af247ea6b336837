"""How many tokens the texts of a request have, and whether the model reads all of them."""

import asyncio
import sys
from dataclasses import dataclass
from typing import Any

from service.errors import LimitExceededError
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request
from service.tasks import AnyItem, ClassifyItem, EmbedItem, TagItem, Text, TranslateItem

_LONG_CHARACTERS = 2_000
"""Characters of a text whose tokens are counted on a thread."""


@dataclass(slots=True)
class Usage:
    """Asks a pipeline, and counts the tokens that it reads; pass `ask` to `answer`."""

    tokens: int = 0
    """Tokens of the texts, special ones included, of what the model reads. Images have none."""

    async def ask(
        self, pipeline: Pipeline[Any, Any], item: AnyItem, request: Request
    ) -> Outcome[Any]:
        """Return the outcome of one item. Raises ServiceError."""
        outcome = await pipeline.answer(item, request)
        self.tokens += min(await count_tokens(pipeline, item), most_tokens(pipeline))
        return outcome


@dataclass(frozen=True, slots=True)
class Whole:
    """Asks a pipeline, unless it would cut the text elsewhere than the request wants."""

    may_cut: bool = True
    """Whether a text that is too long may be cut at all."""
    cuts_the_end: bool = True
    """Whether it may lose its end, or else its beginning."""

    async def ask(
        self, pipeline: Pipeline[Any, Any], item: AnyItem, request: Request
    ) -> Outcome[Any]:
        """Return the outcome of one item.

        Raises:
            LimitExceededError: the text is too long for the model.
        """
        tokenizer, most = pipeline.family.traits.tokenizer, most_tokens(pipeline)
        as_wanted = tokenizer is None or (
            self.may_cut and tokenizer.cuts_the_end == self.cuts_the_end
        )
        if not as_wanted and (count := await count_tokens(pipeline, item)) > most:
            side = "end" if tokenizer is not None and tokenizer.cuts_the_end else "beginning"
            raise LimitExceededError(
                f"the text has {count} tokens; this model reads {most}, and would cut its {side}"
            )
        return await pipeline.answer(item, request)


def most_tokens(pipeline: Pipeline[Any, Any]) -> int:
    """Return how many tokens a model reads of a text."""
    most = pipeline.family.traits.max_tokens
    return sys.maxsize if most is None else most


async def count_tokens(pipeline: Pipeline[Any, Any], item: AnyItem) -> int:
    """Return how many tokens the text of an item has, nothing cut; 0 for an image."""
    tokenizer, texts = pipeline.family.traits.tokenizer, _texts(item)
    if tokenizer is None or not texts:
        return 0
    if sum(map(len, texts)) > _LONG_CHARACTERS:
        return await asyncio.to_thread(tokenizer.length, *texts)
    return tokenizer.length(*texts)


def _texts(item: AnyItem) -> list[str]:
    match item:
        case TranslateItem(text) | TagItem(text):
            return [text]
        case ClassifyItem(Text(text), _, None) | EmbedItem(Text(text)):
            return [text]
        case ClassifyItem(Text(text), _, str(pair)):
            return [text, pair]
        case _:
            return []
