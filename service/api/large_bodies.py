"""What reads a large body runs on a thread."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

from service.api.http_request import HttpRequest

ResultT = TypeVar("ResultT")

LARGE = 256 * 1024
"""Bytes. A body of 16 MB may take nearly a second if it was made to."""


async def apart_if_large(
    request: HttpRequest, function: Callable[..., ResultT], *arguments: object
) -> ResultT:
    """Call a function that reads the body or its items; on a thread if the body is large.

    Other requests and the health checks do not wait for a large body then.

    Raises:
        Exception: what the function raises.
    """
    if request.record.received <= LARGE:
        return function(*arguments)
    return await asyncio.to_thread(function, *arguments)
