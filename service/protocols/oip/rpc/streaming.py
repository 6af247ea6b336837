"""A translation over a stream: one response for each segment, as soon as it is translated."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import numpy as np

from service.errors import renewed
from service.protocols.oip.inference import InferCall, prioritised, seconds_of
from service.protocols.oip.native import translation_request
from service.protocols.oip.rpc.calls import Call
from service.protocols.oip.rpc.messages import response
from service.requests.pipeline import Outcome
from service.requests.request import Selection
from service.requests.translation_stream import (
    SegmentResult,
    StreamError,
    open_translation_stream,
)


async def translated(call: Call, asked: InferCall) -> AsyncIterator[Any]:
    """Yield the responses to a request for translation, in the order of its segments.

    Each has the tensors `translation` (with the white space around it: joined, those of a text are
    its translation), `item` (index of the text) and `segment` (index in the text), all of shape
    [1]. The last one has the parameter `triton_final_response` and may have no tensors.

    Raises:
        ServiceError: the request was refused, or a text or segment failed.
    """
    context = call.context
    items, documents = translation_request(asked.inputs, asked.parameters, context.limits)
    request = prioritised(call.request(seconds_of(asked.parameters)), asked.parameters)
    selection = Selection(asked.model, asked.version)
    opened = await open_translation_stream(context.registry, request, selection, items, documents)
    model, version = opened.model.name, opened.model.version
    with opened:
        async with aclosing(opened.events()) as events:
            async for event in events:
                if isinstance(event, StreamError):
                    raise renewed(event.error)
                if isinstance(event, SegmentResult):
                    if not isinstance(event.result, Outcome):
                        raise renewed(event.result)
                    piece = event.piece
                    text = piece.segment.before + event.result.answer.text + piece.after
                    outputs = {
                        "translation": np.array([text.encode()], object),
                        "item": np.array([piece.item], np.int32),
                        "segment": np.array([piece.index], np.int32),
                    }
                    yield response(model, version, asked.id, outputs, is_final=False)
    yield response(model, version, asked.id, {}, is_final=True)
