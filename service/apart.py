"""A thread of its own for what may never end."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from service.stopping import StopSignal, obey

T = TypeVar("T")

THREAD_NAME = "apart"


async def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on a new thread, and wait for it.

    A pool would lose one of its threads to a call that never ends. A cancellation stops what the
    function runs, as far as that obeys, and does not wait for it: the thread is left behind, and
    the process can end all the same.
    """
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()
    stop = StopSignal()
    call = (result, stop, function, arguments)
    threading.Thread(target=_call, args=call, name=THREAD_NAME, daemon=True).start()
    try:
        return await asyncio.wrap_future(result)
    except asyncio.CancelledError:
        stop.set()
        raise


def _call(
    result: "Future[T]", stop: StopSignal, function: Callable[..., T], arguments: tuple[Any, ...]
) -> None:
    try:
        result.set_result(obey(stop, function, *arguments))
    except BaseException as error:
        result.set_exception(error)
        del result  # else the error refers to this frame, and the frame to the error
