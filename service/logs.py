"""Logs: one event a line, with its fields. Knows nothing of what is logged.

Modules log a constant message and give the rest as fields: `log.info("model ready",
extra={"model": name})`.
"""

import json
import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO

_OWN = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""What every record has; the rest are fields."""

_NOT_FIELDS = frozenset({"color_message"})
"""uvicorn repeats its messages in colour under this name."""

_QUOTED = frozenset(' "=')


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
        return json.dumps(event, ensure_ascii=False, default=str)


class TextFormatter(_EventFormatter):
    """An event as `time level event key=value ...`; a value with other signs is quoted."""

    def _line(self, event: Mapping[str, Any]) -> str:
        fields = dict(event)
        head = f"{fields.pop('time')} {fields.pop('level'):<7} {_word(fields.pop('event'), ' ')}"
        traceback = str(fields.pop("exception", ""))
        line = " ".join([head, *(f"{key}={_word(value)}" for key, value in fields.items())])
        # Below it and indented: readable, and not to be mistaken for an event of its own.
        return "\n    ".join([line, *map(_visible, traceback.split("\n"))]) if traceback else line


def configure_logs(level: str, form: Literal["text", "json"], stream: TextIO | None = None) -> None:
    """Send every event of at least this level to a stream, in place of what was set up before.

    Without a stream they go to standard error.
    """
    output = logging.StreamHandler(stream)
    output.setFormatter(JsonFormatter() if form == "json" else TextFormatter())
    root = logging.getLogger()
    root.handlers[:] = [output]
    root.setLevel(level.upper())


def _word(value: Any, allowed: str = "") -> str:
    # Quoted like JSON, so that no value can forge a second line or another field.
    text = str(value)
    if text and text.isprintable() and not set(text) & (_QUOTED - set(allowed)):
        return text
    return json.dumps(text, ensure_ascii=not text.isprintable())


def _visible(line: str) -> str:
    return "".join(sign if sign.isprintable() else f"\\x{ord(sign):02x}" for sign in line)
