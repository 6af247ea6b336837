"""Versions that serve no longer: they answer what they accepted, and are closed exactly once."""

import asyncio
import logging
from collections.abc import Callable

from service.memory import return_free_memory
from service.registry.loader import Loaded

_log = logging.getLogger(__name__)

_LINGER = 0.05
"""Seconds for a request that has found a version, but not called it yet, to call it."""


class Draining:
    """The versions that drain now."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._tasks: dict[Loaded, asyncio.Task[int]] = {}
        self._closing: set[Loaded] = set()

    def __repr__(self) -> str:
        return f"<Draining {len(self._tasks)}>"

    def has(self, model: str, version: int) -> bool:
        """Tell whether this version drains."""
        return any((d.files.model, d.files.version) == (model, version) for d in self._tasks)

    def begin(self, loaded: Loaded, ended: Callable[[Loaded], None]) -> "asyncio.Task[int]":
        """Drain a version for at most `seconds`, close it and call `ended`.

        The task returns how many of its runs go on all the same.

        Wait for the task with `asyncio.wait`: it is cancelled when everything stops.
        """
        task = asyncio.get_running_loop().create_task(self._drain(loaded, ended))
        self._tasks[loaded] = task
        task.add_done_callback(_trim_soon)
        return task

    async def stop(self, grace: float) -> None:
        """Close every version that drains, giving accepted items `grace` seconds."""
        tasks = dict(self._tasks)
        left = [loaded for loaded in tasks if loaded not in self._closing]
        for loaded in left:
            self._tasks.pop(loaded).cancel()
        await asyncio.gather(*(close(loaded, grace) for loaded in left))
        await asyncio.gather(*tasks.values(), return_exceptions=True)

    async def _drain(self, loaded: Loaded, ended: Callable[[Loaded], None]) -> int:
        await asyncio.sleep(_LINGER)
        try:
            async with asyncio.timeout(self._seconds):
                while loaded.pipeline.active:
                    await loaded.pipeline.idle.wait()
        except TimeoutError:
            _log.warning("drain cut short", extra={"model": loaded.files.model})
        self._closing.add(loaded)
        try:
            loaded.pipeline.withdraw()
            return await close(loaded, grace=0)
        finally:
            self._closing.discard(loaded)
            del self._tasks[loaded]
            ended(loaded)


async def close(loaded: Loaded, grace: float) -> int:
    """Close a version, and return how many of its runs go on all the same.

    A fault in it is logged: it must not keep others from being closed.
    """
    running = 0
    try:
        if running := await loaded.close(grace):
            _log.warning("runs go on", extra={"model": loaded.files.model, "runs": running})
    except Exception:
        _log.exception("model close failed", extra={"model": loaded.files.model})
    return running


def _trim_soon(_: "asyncio.Task[int]") -> None:
    """Have the C library give back what a version held, once nothing refers to it."""
    loop = asyncio.get_running_loop()
    loop.call_later(_LINGER, loop.run_in_executor, None, return_free_memory)
