"""Stops a run from another thread.

The time of a run can depend on the content of its input (a loop whose count is an input). ONNX
Runtime checks a flag between two nodes; `StopSignal` sets it from another thread.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from service.errors import InferenceError

T = TypeVar("T")


class RunStoppedError(InferenceError):
    """The run was stopped."""


class StopSignal:
    """Stops a run from another thread.

    The running thread calls `begin` and `end` around each part that can be interrupted. No lock is
    needed: `begin` stores the canceller before it reads the flag, and `set` does the reverse.
    """

    __slots__ = ("_cancel", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._cancel: Callable[[], object] | None = None

    def set(self) -> None:
        """Interrupt the current part and refuse later ones. Thread-safe; does not wait."""
        self.is_set = True
        cancel = self._cancel
        if cancel is not None:
            cancel()

    def begin(self, cancel: Callable[[], object]) -> None:
        """Begin a part that `cancel` interrupts. Raises RunStoppedError if the signal is set."""
        self._cancel = cancel
        if self.is_set:
            self._cancel = None
            raise RunStoppedError("the run was stopped before it began")

    def end(self) -> None:
        """End the current part."""
        self._cancel = None


class _OfThread(threading.local):
    stop: StopSignal | None = None


_of_thread = _OfThread()


def obey(stop: StopSignal, function: Callable[..., T], *arguments: object) -> T:
    """Call a function on this thread so that the signal can stop the runs in it."""
    before, _of_thread.stop = _of_thread.stop, stop
    try:
        return function(*arguments)
    finally:
        _of_thread.stop = before


def current_stop() -> StopSignal | None:
    """Return the signal of this thread; None if there is none."""
    return _of_thread.stop


THREAD_NAME = "apart"


async def apart(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function on a new thread and wait for it.

    A pool would lose a thread to a call that never ends. Cancelling sets the thread's `StopSignal`
    and does not wait: the thread is a daemon, so the process can exit while it runs.
    """
    result: Future[T] = Future()
    result.set_running_or_notify_cancel()
    stop = StopSignal()
    threading.Thread(
        target=_call, args=(result, stop, function, arguments), name=THREAD_NAME, daemon=True
    ).start()
    try:
        return await asyncio.wrap_future(result)
    except asyncio.CancelledError:
        stop.set()
        raise
    finally:
        del result  # a failed future would keep this frame, and the frame the future


def _call(
    result: "Future[T]", stop: StopSignal, function: Callable[..., T], arguments: tuple[Any, ...]
) -> None:
    try:
        result.set_result(obey(stop, function, *arguments))
    except BaseException as error:
        result.set_exception(error)
        del result  # else the error refers to this frame, and the frame to the error
