"""How many tokens the texts of a request have."""

import asyncio
from dataclasses import dataclass
from typing import Any

from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request
from service.tasks import AnyItem, ClassifyItem, EmbedItem, Text, TranslateItem

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
        self.tokens += await count_tokens(pipeline, item)
        return outcome


async def count_tokens(pipeline: Pipeline[Any, Any], item: AnyItem) -> int:
    """Return how many tokens a model reads of an item; 0 for an image."""
    traits = pipeline.family.traits
    texts = _texts(item)
    if (tokenizer := traits.tokenizer) is None or not texts:
        return 0
    if sum(map(len, texts)) > _LONG_CHARACTERS:
        count = await asyncio.to_thread(tokenizer.length, *texts)
    else:
        count = tokenizer.length(*texts)
    return count if traits.max_tokens is None else min(count, traits.max_tokens)


def _texts(item: AnyItem) -> list[str]:
    match item:
        case TranslateItem(text):
            return [text]
        case ClassifyItem(Text(text), _, None) | EmbedItem(Text(text)):
            return [text]
        case ClassifyItem(Text(text), _, str(pair)):
            return [text, pair]
        case _:
            return []
