"""The metric series of a version with in-flight batching."""

from typing import TYPE_CHECKING

from service.telemetry.metrics import (
    INFLIGHT_FIRST_TOKEN_SECONDS,
    INFLIGHT_JOIN_SECONDS,
    INFLIGHT_STEP_ROWS,
    INFLIGHT_STEPS,
    INFLIGHT_TOKENS,
    INFLIGHT_WASTED_ROWS,
)

if TYPE_CHECKING:
    from service.telemetry.meters import StepReport


class StepSeries:
    """Bound once; other versions do not have these series."""

    def __init__(self, labels: tuple[str, str]) -> None:
        self._steps = INFLIGHT_STEPS.labels(*labels)
        self._step_rows = INFLIGHT_STEP_ROWS.labels(*labels)
        self._wasted_rows = INFLIGHT_WASTED_ROWS.labels(*labels)
        self._tokens = INFLIGHT_TOKENS.labels(*labels)
        self._join_seconds = INFLIGHT_JOIN_SECONDS.labels(*labels)
        self._first_token_seconds = INFLIGHT_FIRST_TOKEN_SECONDS.labels(*labels)

    def count(self, report: "StepReport") -> None:
        self._steps.inc(report.steps)
        self._step_rows.inc(report.rows)
        self._wasted_rows.inc(report.wasted_rows)
        self._tokens.inc(report.tokens)
        for waited in report.join_waits:
            self._join_seconds.observe(waited)
        for seconds in report.first_tokens:
            self._first_token_seconds.observe(seconds)
