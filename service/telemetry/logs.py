"""Logs: one event a line, with its fields. Knows nothing of what is logged.

Modules log a constant message and give the rest as fields: `log.info("model ready",
extra={"model": name})`.
"""

import json
import logging
import os
import queue
import select
import sys
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, TypeAlias, cast

from service.telemetry.request_metrics import (
    LOG_EVENTS_DROPPED,
)

Form: TypeAlias = Literal["auto", "text", "json"]

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest are fields."""

_NOT_FIELDS = frozenset({"color_message"})
"""uvicorn repeats its messages in colour under this name."""

_QUOTED = frozenset(' "=')

_MOST_WAITING = 4096
"""Most lines held for a reader that does not keep up."""

_FLUSH_SECONDS = 2.0
"""How long, in the end, the reader may take for the lines that wait."""


class _EventFormatter(logging.Formatter, ABC):
    def format(self, record: logging.LogRecord) -> str:
        event = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        event |= {
            key: value
            for key, value in vars(record).items()
            if key not in _OWN and key not in _NOT_FIELDS
        }
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return self._line(event)

    @abstractmethod
    def _line(self, event: Mapping[str, Any]) -> str: ...


class JsonFormatter(_EventFormatter):
    """An event as a JSON object."""

    def _line(self, event: Mapping[str, Any]) -> str:
        line = json.dumps(event, ensure_ascii=False, default=str)
        # JSON leaves some signs alone that a reader may take for the end of a line.
        return line if line.isprintable() else json.dumps(event, default=str)


class TextFormatter(_EventFormatter):
    """An event as `time level event key=value ...`; a value with other signs is quoted."""

    def _line(self, event: Mapping[str, Any]) -> str:
        fields = dict(event)
        head = f"{fields.pop('time')} {fields.pop('level'):<7} {_word(fields.pop('event'), ' ')}"
        traceback = str(fields.pop("exception", ""))
        line = " ".join([head, *(f"{key}={_word(value)}" for key, value in fields.items())])
        # Below it and indented: readable, and not to be mistaken for an event of its own.
        return "\n    ".join([line, *map(_visible, traceback.split("\n"))]) if traceback else line


def configure_logs(
    level: str,
    form: Form,
    stream: TextIO | None = None,
    levels: Mapping[str, str] | None = None,
) -> None:
    """Send every event of at least this level to a stream, in place of what was set up before.

    Args:
        level: the least that is logged, of modules that have none of their own.
        form: "auto" is text on a terminal and JSON elsewhere.
        stream: standard error if there is none.
        levels: of single modules, and of those below them, by their full name.
    """
    stream = sys.stderr if stream is None else stream
    output = logging.StreamHandler(stream)
    as_text = form == "text" or (form == "auto" and stream.isatty())
    output.setFormatter(TextFormatter() if as_text else JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level.upper())
    for name, of_module in (levels or {}).items():
        logging.getLogger(name).setLevel(of_module.upper())


@contextmanager
def written_in_background() -> Iterator[None]:
    """Write, until the block ends, in a thread: who logs does not wait for who reads the log.

    A pipe that is not read would otherwise stop the event loop, and with it the service. Of
    what waits when the block ends, as much is written as the reader takes in two seconds. Logs
    must have been configured, onto a stream that the system knows.
    """
    root = logging.getLogger()
    before = root.handlers[:]
    output = cast("logging.StreamHandler[TextIO]", before[0])
    output.flush()
    writer = _Writer(output.stream.fileno())
    root.handlers[:] = [_Handler(writer, output.formatter)]
    try:
        yield
    finally:
        root.handlers[:] = before
        writer.close()


@contextmanager
def written_if_read() -> Iterator[None]:
    """Write, until the block ends, only what the reader of the log takes at once; without a thread.

    For a process that forks. Logs must have been configured, onto a stream that the system knows.
    """
    root = logging.getLogger()
    before = root.handlers[:]
    output = cast("logging.StreamHandler[TextIO]", before[0])
    writer = _HastyWriter(output.stream.fileno())
    root.handlers[:] = [_Handler(writer, output.formatter)]
    try:
        yield
    finally:
        root.handlers[:] = before


class _HastyWriter:
    """Writes lines while the reader keeps up."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, line: str) -> None:
        """Write a line, or drop it."""
        _, writable, _ = select.select([], [self._descriptor], [], 0)
        if writable:
            with suppress(OSError):
                os.write(self._descriptor, (line + "\n").encode(errors="backslashreplace"))


class _Writer:
    """Writes lines to a file descriptor in a thread of its own.

    `logging.handlers.QueueListener` would wait without end for a reader that has stopped; and a
    thread that is stuck in a stream of Python's makes the interpreter abort when it ends.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._lines: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def write(self, line: str) -> None:
        """Have a line written; without room for it, count it as dropped."""
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            LOG_EVENTS_DROPPED.inc()

    def close(self) -> None:
        """Write what waits, for `_FLUSH_SECONDS` at most."""
        until = time.monotonic() + _FLUSH_SECONDS
        with suppress(queue.Full):
            self._lines.put(None, timeout=_FLUSH_SECONDS)
            self._thread.join(until - time.monotonic())

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            data = (line + "\n").encode(errors="backslashreplace")
            try:
                while data:
                    data = data[os.write(self._descriptor, data) :]
            except OSError:  # the reader is gone
                LOG_EVENTS_DROPPED.inc()


class _Handler(logging.Handler):
    """Turns events into lines where they happen, and leaves the writing to a writer."""

    def __init__(self, writer: _Writer | _HastyWriter, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._writer.write(self.format(record))
        except Exception:  # a field that cannot be shown must not fail who logs it
            LOG_EVENTS_DROPPED.inc()


def _word(value: Any, allowed: str = "") -> str:
    # Quoted like JSON, so that no value can forge a second line or another field.
    text = str(value)
    if text and text.isprintable() and not set(text) & (_QUOTED - set(allowed)):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _visible(line: str) -> str:
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in line)
