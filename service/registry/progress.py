"""How far the load of a version is: for `/v1/models`, the log and the metrics."""

import asyncio
import logging
import time
from collections.abc import Callable
from enum import StrEnum
from typing import TypeAlias

from service.telemetry import metrics

_log = logging.getLogger(__name__)

_REPORT_SECONDS = 30.0
"""A load that takes longer logs its progress this often."""


class LoadPhase(StrEnum):
    """The phases of a load, in order."""

    READING = "reading"
    OPENING = "opening"
    WARMING_UP = "warming_up"
    CHECKING_GOLDENS = "checking_goldens"


EnterPhase: TypeAlias = Callable[[LoadPhase], None]


def ignore_phase(phase: LoadPhase) -> None:
    """Do nothing, for loads that are not observed."""


class LoadProgress:
    """The progress of one load. Call `end` when it succeeds, fails or is cancelled."""

    def __init__(self, model: str, version: int) -> None:
        self._labels = {"model": model, "version": str(version)}
        self._started = time.monotonic()
        self._report: asyncio.TimerHandle | None = None
        self.phase = LoadPhase.READING
        self._publish()
        self._report_later()

    @property
    def seconds(self) -> float:
        """Return the seconds since the load began."""
        return round(time.monotonic() - self._started, 3)

    def enter(self, phase: LoadPhase) -> None:
        """Note that a phase begins."""
        self.phase = phase
        self._publish()
        _log.debug("model loading", extra=self._facts())

    def end(self) -> None:
        """Stop reporting, and remove the series of this load."""
        if self._report is not None:
            self._report.cancel()
        metrics.MODEL_LOADING_SECONDS.remove_by_labels(self._labels)

    def _publish(self) -> None:
        metrics.MODEL_LOADING_SECONDS.remove_by_labels(self._labels)
        series = metrics.MODEL_LOADING_SECONDS.labels(**self._labels, phase=self.phase.value)
        started = self._started  # not self: the registry of metrics would keep it alive
        series.set_function(lambda: time.monotonic() - started)

    def _report_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._report = loop.call_later(_REPORT_SECONDS, self._log_progress)

    def _log_progress(self) -> None:
        _log.info("model still loading", extra=self._facts())
        self._report_later()

    def _facts(self) -> dict[str, object]:
        return {**self._labels, "phase": self.phase.value, "seconds": self.seconds}
