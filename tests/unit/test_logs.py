import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from service.logs import configure_logs

Configure = Callable[[str, Literal["text", "json"]], io.StringIO]


@pytest.fixture
def configure() -> Iterator[Configure]:
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def configured(level: str, form: Literal["text", "json"]) -> io.StringIO:
        stream = io.StringIO()
        configure_logs(level, form, stream)
        return stream

    yield configured
    root.handlers[:], level = before
    root.setLevel(level)


log = logging.getLogger("service.somewhere")


def test_an_event_is_a_line_of_text_with_its_fields(configure: Configure) -> None:
    stream = configure("info", "text")
    log.info("model ready", extra={"model": "zh-en", "version": 2, "seconds": 1.5})
    time, rest = stream.getvalue().split(" ", 1)
    assert time.endswith("+00:00")
    assert (
        rest == "info    model ready logger=service.somewhere model=zh-en version=2 seconds=1.5\n"
    )


def test_an_event_is_a_json_object_with_its_fields(configure: Configure) -> None:
    stream = configure("info", "json")
    log.warning("load of %s failed", "a", extra={"reason": "line\nbreak", "when": {1}})
    event = json.loads(stream.getvalue())
    del event["time"]
    assert event == {
        "level": "warning",
        "logger": "service.somewhere",
        "event": "load of a failed",
        "reason": "line\nbreak",
        "when": "{1}",
    }


@pytest.mark.parametrize("value", ["a b", 'say "x"', "a=b", "two\nlines", "\x1b[31m", "\u2028", ""])
def test_no_value_can_forge_a_field_or_a_line(configure: Configure, value: str) -> None:
    stream = configure("info", "text")
    log.info("refused", extra={"reason": value})
    line = stream.getvalue()
    assert line.count("\n") == 1
    assert json.loads(line.split(" reason=", 1)[1]) == value
    assert "\x1b" not in line
    assert len(line.splitlines()) == 1


def test_no_message_can_forge_a_line(configure: Configure) -> None:
    stream = configure("info", "text")
    log.info("a\nb")
    assert stream.getvalue().count("\n") == 1


def test_events_below_the_level_are_left_out(configure: Configure) -> None:
    stream = configure("warning", "text")
    log.info("quiet")
    log.warning("loud")
    assert "quiet" not in stream.getvalue()
    assert "loud" in stream.getvalue()


def fail(message: str) -> None:
    raise ValueError(message)


def test_an_exception_is_a_field_of_its_json_object(configure: Configure) -> None:
    stream = configure("info", "json")
    try:
        fail("why")
    except ValueError:
        log.exception("it failed")
    event = json.loads(stream.getvalue())
    assert event["exception"].startswith("Traceback")
    assert event["exception"].endswith("ValueError: why")


def test_an_exception_stands_indented_below_its_line_of_text(configure: Configure) -> None:
    stream = configure("info", "text")
    try:
        fail("why\n2026-01-01 forged \x1b[31m")
    except ValueError:
        log.exception("it failed")
    first, *rest = stream.getvalue().splitlines()
    assert "it failed" in first
    assert "    ValueError: why" in rest
    assert all(line.startswith("    ") for line in rest)
    assert "\x1b" not in stream.getvalue()


def test_what_uvicorn_says_twice_is_said_once(configure: Configure) -> None:
    stream = configure("info", "text")
    log.info("started", extra={"color_message": "\x1b[1mstarted"})
    assert "color_message" not in stream.getvalue()


def test_configuring_again_replaces_what_was_there(configure: Configure) -> None:
    first = configure("info", "text")
    second = configure("info", "text")
    log.info("once")
    assert first.getvalue() == ""
    assert second.getvalue().count("once") == 1
