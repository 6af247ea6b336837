"""The owner of a key: what it may do, and what it has used."""

import time
from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from service.access.counts import Counts, Standing
from service.access.key import DAY, MICROSECONDS, Amounts, Key, Limit
from service.access.usage import usage
from service.errors import (
    ForbiddenError,
    LimitExceededError,
    QuotaExceededError,
    RateLimitedError,
    ServiceError,
)
from service.tasks import ComposedTask, Task
from service.telemetry.request_metrics import (
    ACCESS_REFUSALS,
    ACCESS_REQUESTS,
    ACCESS_USAGE,
)

Field: TypeAlias = tuple[bytes, bytes]

_ONE_REQUEST: Amounts = {"requests": 1}


def now() -> int:
    """Return the time of a clock that never goes back, in microseconds."""
    return time.monotonic_ns() // 1000


class Taken(NamedTuple):
    """What shared counts decided."""

    late: tuple[Limit, int] | None
    """None if the amounts fit; else the limit that they do not fit, and its wait in
    microseconds."""


class SharedCounts(Protocol):
    """Counts that several processes share."""

    async def take(
        self, name: str, limits: Sequence[Limit], amounts: Amounts, counts: Counts
    ) -> Taken | None:
        """Use the amounts, all or none, and set `counts` to what all processes have used.

        Returns:
            None if the shared counts did not answer; then `counts` were not changed.
        """
        ...


class Caller:
    """The owner of a key. Every transport finds it by `Access.caller`, and calls `begin`."""

    def __init__(self, key: Key, counts: Counts, shared: SharedCounts | None = None) -> None:
        """Take a key, and what its name has used so far."""
        self.key, self.share = key, key.share
        self._counts, self._shared = counts, shared
        self._counts_pixels = any(limit.unit == "pixels" for limit in key.limits)
        self._requests = ACCESS_REQUESTS.labels(key.name)
        self._policy: Field = (
            b"ratelimit-policy",
            ", ".join(
                f'"{each.name}";q={each.most};w={each.seconds}{_quota_unit(each)}'
                for each in key.limits
            ).encode(),
        )

    def __repr__(self) -> str:
        return f"<Caller {self.key.name}>"

    @property
    def name(self) -> str:
        """Return the name of the key, a label of metrics."""
        return self.key.name

    async def begin(self) -> None:
        """Count one request. Raises RateLimitedError."""
        self._requests.inc()
        await self._take(_ONE_REQUEST)

    async def spend(
        self, task: Task | ComposedTask, models: Collection[str], items: Sequence[object]
    ) -> None:
        """Count the items of a request before they are computed.

        Args:
            task: of the request.
            models: the names of the models that will answer.
            items: those that could not be parsed are given as errors.

        Raises:
            ForbiddenError: the key may not use the task or a model.
            LimitExceededError: the request alone is over a limit.
            RateLimitedError: it does not fit a limit now.
            QuotaExceededError: it does not fit the quota of the day.
        """
        self._check(task, models)
        amounts = usage(items, self._counts_pixels)
        await self._take(amounts)
        for unit, amount in amounts.items():
            ACCESS_USAGE.labels(self.name, unit).inc(amount)

    def require_administrator(self) -> None:
        """Raise ForbiddenError unless the key is an administrator's."""
        if not self.key.is_admin:
            raise self._refused(ForbiddenError(f"the key {self.name!r} is not an administrator's"))

    def standings(self) -> Sequence[Standing]:
        """Return what is left of each limit."""
        at = now()
        return [self._counts.standing(limit, at) for limit in self.key.limits]

    def fields(self) -> Sequence[Field]:
        """Return RateLimit-Policy and RateLimit (IETF draft 10), if the key has limits."""
        if not self.key.limits:
            return ()
        left = ", ".join(
            f'"{limit.name}";r={room};t={-(-reset // MICROSECONDS)}'
            for limit, room, reset in self.standings()
        )
        return (self._policy, (b"ratelimit", left.encode()))

    def _check(self, task: Task | ComposedTask, models: Collection[str]) -> None:
        tasks = self.key.tasks
        if tasks is not None and task not in tasks:
            raise self._refused(ForbiddenError(f"the key {self.name!r} may not {task}"))
        allowed = self.key.models
        for model in models:
            if allowed is not None and model not in allowed:
                raise self._refused(
                    ForbiddenError(f"the key {self.name!r} may not use the model {model!r}")
                )

    async def _take(self, amounts: Amounts) -> None:
        limits = [limit for limit in self.key.limits if limit.unit in amounts]
        if not limits:
            return
        for limit in limits:
            if amounts[limit.unit] > limit.most:
                raise self._refused(
                    LimitExceededError(
                        f"the request has {amounts[limit.unit]} {limit.unit}; the limit "
                        f"{limit.name} of the key is {limit.most}"
                    )
                )
        late = await self._take_fitting(limits, amounts)
        if late is not None:
            raise self._refused(_too_much(*late))

    async def _take_fitting(
        self, limits: Sequence[Limit], amounts: Amounts
    ) -> tuple[Limit, int] | None:
        if self._shared is not None:
            found = await self._shared.take(self.name, limits, amounts, self._counts)
            if found is not None:
                return found.late
        return self._counts.take(limits, amounts, now())

    def _refused(self, error: ServiceError) -> ServiceError:
        ACCESS_REFUSALS.labels(self.name, error.code).inc()
        return error


def _quota_unit(limit: Limit) -> str:
    return "" if limit.unit == "requests" else f';qu="{limit.unit}"'


def _too_much(limit: Limit, wait: int) -> ServiceError:
    seconds = wait / MICROSECONDS
    if limit.seconds == DAY and not limit.spacing:
        return QuotaExceededError(
            f"the key has used up its {limit.unit} of the day ({limit.most})", seconds
        )
    return RateLimitedError(
        f"the key is over its limit {limit.name} ({limit.most} in {limit.seconds} s)", seconds
    )
