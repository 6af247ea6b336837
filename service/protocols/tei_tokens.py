"""The model of a request of text-embeddings-inference, and its tokens: /tokenize and /decode."""

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from service.api.content import as_text
from service.api.http_request import HttpRequest
from service.api.replies import Reply
from service.errors import InvalidInputError, ModelNotFoundError, ModelRequiredError
from service.protocols.bodies import Body
from service.protocols.protocol import parsed, rendered
from service.protocols.tei_bodies import TeiDecodeBody, TeiTokenizeBody, texts_of
from service.requests.answer import found
from service.requests.pipeline import Pipeline
from service.requests.request import Selection
from service.tasks import Task
from service.transforms.language.text import TextTokenizer


def selection(request: HttpRequest) -> Selection:
    """Return the model in the path."""
    return Selection(request.path_params.get("model"))


async def tokenize(request: HttpRequest, body: Body) -> Reply:
    """Return the tokens of texts."""
    wanted, limits = parsed(body, TeiTokenizeBody), request.context.limits
    texts = [as_text(value, limits, "input") for value in texts_of(wanted.inputs, limits)]
    pipeline = await text_model(request)
    await _spend(request, pipeline, texts)
    prompts = pipeline.family.traits.prompts
    if wanted.prompt_name is not None and wanted.prompt_name not in prompts:
        known = ", ".join(prompts) or "none"
        raise InvalidInputError(f"this model has no prompt of that name; it has {known}")
    prompt = prompts[wanted.prompt_name] if wanted.prompt_name is not None else ""
    tokenizer = _tokenizer(pipeline)
    rows = await asyncio.to_thread(
        lambda: [tokenizer.tokens(prompt + one.text, wanted.add_special_tokens) for one in texts]
    )
    return rendered(
        [
            [
                {
                    "id": token.id,
                    "text": token.text,
                    "special": token.is_special,
                    "start": token.start,
                    "stop": token.stop,
                }
                for token in tokens
            ]
            for tokens in rows
        ]
    )


async def decode(request: HttpRequest, body: Body) -> Reply:
    """Return the texts of token ids."""
    wanted = parsed(body, TeiDecodeBody)
    rows = wanted.ids if any(isinstance(one, list) for one in wanted.ids) else [wanted.ids]
    pipeline = await text_model(request)
    tokenizer = _tokenizer(pipeline)
    for row in rows:
        if not isinstance(row, list) or not all(_is_id(one, tokenizer) for one in row):
            raise InvalidInputError(f"ids must be whole numbers from 0 to {tokenizer.largest_id}")
    await _spend(request, pipeline, rows)
    skip = wanted.skip_special_tokens
    texts = await asyncio.to_thread(
        lambda: [tokenizer.decode(np.array(row, np.int64), skip) for row in rows]
    )
    return rendered(texts)


async def text_model(request: HttpRequest) -> Pipeline[Any, Any]:
    """Return the model in the path, else the default embedder, else the default text classifier.

    Raises:
        ServiceError: there is none.
    """
    registry, asked = request.context.registry, request.without_transport()
    if (name := selection(request).model) is not None:
        return await found(partial(registry.named, name), asked)
    find = partial(registry.find, modality="text", model=None, version=None)
    try:
        return await found(partial(find, Task.EMBED), asked)
    except (ModelNotFoundError, ModelRequiredError):
        return await found(partial(find, Task.CLASSIFY), asked)


async def _spend(request: HttpRequest, pipeline: Pipeline[Any, Any], items: Sequence[Any]) -> None:
    """Count the items for the key of the request, which must be allowed to use the model."""
    if request.caller is not None:
        await request.caller.spend(pipeline.task, (pipeline.model.name,), items)


def _tokenizer(pipeline: Pipeline[Any, Any]) -> TextTokenizer:
    if (tokenizer := pipeline.family.traits.tokenizer) is None:
        raise InvalidInputError(f"model {pipeline.model.name!r} has no tokenizer of texts")
    return tokenizer


def _is_id(value: object, tokenizer: TextTokenizer) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return 0 <= value <= tokenizer.largest_id
