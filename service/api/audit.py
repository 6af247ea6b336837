"""A line of the log for each change that an administrator makes, whatever the transport."""

import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.access.caller import Caller
from service.errors import ServiceError
from service.registry.registry import Registry
from service.registry.status import ModelState

_log = logging.getLogger(__name__)

_TOKEN = "admin-token"  # noqa: S105 - what stands for a name in the log
_NOTHING = "none"

T = TypeVar("T")


async def audited(
    caller: Caller | None,
    action: str,
    model: str,
    state: Callable[[], str],
    change: Awaitable[T],
) -> T:
    """Make a change and log who made it, and the state before and after, or why it failed.

    Args:
        caller: the owner of the key; None for the administrators' token.
        action: what is done.
        model: to which model.
        state: returns what changes.
        change: makes the change.
    """
    facts = {"who": caller.name if caller else _TOKEN, "action": action, "model": model[:128]}
    before = state()
    try:
        done = await change
    except ServiceError as error:
        _log.warning("administration refused", extra={**facts, "from": before, "code": error.code})
        raise
    _log.info("administration", extra={**facts, "from": before, "to": state()})
    return done


def versions_of(registry: Registry, model: str) -> Callable[[], str]:
    """Return a function that names the versions of a model that serve."""

    def named() -> str:
        ready = [
            str(status.version)
            for status in registry.statuses()
            if status.model == model and status.state is ModelState.READY
        ]
        return ",".join(ready) or _NOTHING

    return named
