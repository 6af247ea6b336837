"""How far a pull is, as bars on a terminal."""

import logging
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from service.repository.pull.source import RemoteFile

_log = logging.getLogger(__name__)


class _Bars:
    """Progress bars on a terminal; elsewhere a line of the log for each file."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._measure: Callable[[], int] = lambda: 0
        self._task: TaskID | None = None

    def waits(self, model: str) -> None:
        _log.info("another process pulls it", extra={"model": model})

    def begins(self, model: str, size: int | None, measure: Callable[[], int]) -> None:
        self._measure = measure
        _log.info("pull", extra={"model": model, "bytes": size})
        if self._progress is not None:
            self._task = self._progress.add_task(model, total=size)

    def fetches(self, file: RemoteFile) -> None:
        if self._progress is None:
            _log.info("fetching", extra={"file": file.name, "bytes": file.size})
        elif self._task is not None:
            self._progress.update(self._task, description=file.name)

    def refresh(self) -> None:
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=self._measure())


class _MeasuredProgress(Progress):
    """Bars that look at the disk whenever they are drawn."""

    bars: _Bars | None = None

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return the bars, as far as the files on the disk are."""
        if self.bars is not None:
            self.bars.refresh()
        yield from super().get_renderables()


@contextmanager
def shown_pull() -> Iterator[_Bars]:
    """Show a pull while it lasts; give it the observer that this returns."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _Bars(None)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with _MeasuredProgress(*columns, console=console) as progress:
        progress.bars = _Bars(progress)
        yield progress.bars
