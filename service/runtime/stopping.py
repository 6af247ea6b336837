"""How one thread stops what another one runs.

How long a run of a graph takes can depend on what its input holds (a loop whose count is an input).
ONNX Runtime looks between two nodes whether a run was told to stop; this module connects whoever
decides that with the thread that runs.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from service.errors import InferenceError

T = TypeVar("T")


class RunStoppedError(InferenceError):
    """The run was told to stop."""


class StopSignal:
    """Stops a run from another thread.

    The thread that runs calls `begin` and `end` around each part that can be interrupted. There is
    no lock: `begin` stores the canceller before it reads the flag, and `set` does the reverse.
    """

    __slots__ = ("_cancel", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._cancel: Callable[[], object] | None = None

    def set(self) -> None:
        """Interrupt what runs now, and refuse what begins later. From any thread; does not wait."""
        self.is_set = True
        cancel = self._cancel
        if cancel is not None:
            cancel()

    def begin(self, cancel: Callable[[], object]) -> None:
        """Say how to interrupt what begins now. Raises RunStoppedError if it must not begin."""
        self._cancel = cancel
        if self.is_set:
            self._cancel = None
            raise RunStoppedError("the run was stopped before it began")

    def end(self) -> None:
        """Say that it has ended."""
        self._cancel = None


class _OfThread(threading.local):
    stop: StopSignal | None = None


_of_thread = _OfThread()


def obey(stop: StopSignal, function: Callable[..., T], *arguments: object) -> T:
    """Call a function on this thread; what it runs meanwhile can be stopped by the signal."""
    before, _of_thread.stop = _of_thread.stop, stop
    try:
        return function(*arguments)
    finally:
        _of_thread.stop = before


def current_stop() -> StopSignal | None:
    """Return the signal that this thread obeys now."""
    return _of_thread.stop


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
