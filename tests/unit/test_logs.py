import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from service.telemetry import logs
from service.telemetry.logs import Form, configure_logs, written_in_background

pytestmark = pytest.mark.looptime(False)  # threads and pipes

ROOT = Path(__file__).parents[2]

Configure = Callable[[str, Form], io.StringIO]


@pytest.fixture
def configure() -> Iterator[Configure]:
    root = logging.getLogger()
    before = root.handlers[:], root.level

    def configured(level: str, form: Form) -> io.StringIO:
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


def test_without_a_word_about_it_a_terminal_gets_text_and_a_file_gets_json(
    configure: Configure,
) -> None:
    stream = configure("info", "auto")
    log.info("to a file")
    assert json.loads(stream.getvalue())["event"] == "to a file"
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", 0) as terminal, os.fdopen(theirs, "w") as stream_of_it:
        configure_logs("info", "auto", stream_of_it)
        log.info("to a terminal")
        line = terminal.read(1000).decode()
    assert " info    to a terminal logger=service.somewhere" in line


def test_a_module_has_a_level_of_its_own_and_so_have_those_below_it(
    configure: Configure,
) -> None:
    stream = io.StringIO()
    configure("info", "text")
    one, other = logging.getLogger("service.some"), logging.getLogger("service.other")
    try:
        configure_logs("info", "text", stream, {"service.some": "debug", "service.other": "error"})
        logging.getLogger("service.some.where").debug("deep")
        other.warning("quiet")
        log.debug("unasked")
        log.info("plain")
    finally:
        one.setLevel(logging.NOTSET)
        other.setLevel(logging.NOTSET)
    assert [line.split()[2] for line in stream.getvalue().splitlines()] == ["deep", "plain"]


@pytest.mark.parametrize("value", ["\u2028", "\x85", "\x7f", "\x1b[31m", "\ud800", "a\r\nb\x00"])
def test_no_value_can_forge_a_line_of_json(configure: Configure, value: str) -> None:
    stream = configure("info", "json")
    log.info("refused", extra={"reason": value, "where": "北京"})
    line = stream.getvalue()
    assert len(line.splitlines()) == 1
    assert line.rstrip("\n").isprintable()
    assert json.loads(line)["reason"] == value


def test_json_leaves_other_languages_readable(configure: Configure) -> None:
    stream = configure("info", "json")
    log.info("refused", extra={"where": "北京"})
    assert "北京" in stream.getvalue()


class Pipe:
    """A pipe for logs, read when the test likes."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        self.stream = os.fdopen(writing, "w", encoding="utf-8")

    def read(self) -> str:
        return os.read(self.reading, 1 << 20).decode()

    def lines(self) -> Iterator[str]:
        """Close the writing end and return everything in it."""
        self.stream.close()
        with os.fdopen(self.reading, encoding="utf-8") as reader:
            yield from reader


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    with suppress(OSError):
        os.close(pipe.reading)
    with suppress(OSError):
        pipe.stream.close()


def dropped() -> float:
    return REGISTRY.get_sample_value("log_events_dropped_total") or 0.0


def test_in_the_background_every_line_is_written_in_order_by_the_end(
    configure: Configure, pipe: Pipe
) -> None:
    configure("info", "text")
    configure_logs("info", "json", pipe.stream)
    with written_in_background():
        for number in range(100):
            log.info("event", extra={"number": number})
    log.info("after", extra={"number": 100})
    assert [json.loads(line)["number"] for line in pipe.lines()] == list(range(101))


def test_a_reader_that_stops_reading_holds_up_nobody_and_what_is_lost_is_counted(
    configure: Configure, pipe: Pipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "_FLUSH_SECONDS", 0.2)
    monkeypatch.setattr(logs, "_MOST_WAITING", 8)
    configure("info", "text")
    configure_logs("info", "text", pipe.stream)
    before, started = dropped(), time.monotonic()
    with written_in_background():
        for _ in range(200):
            log.info("x" * 10_000)  # the system's pipe takes only a few of these
    assert time.monotonic() - started < 60
    assert dropped() - before > 100
    os.close(pipe.reading)  # the writer finds that out, line by line
    while (count := dropped()) != (time.sleep(0.2), dropped())[1]:
        assert count - before <= 200


def test_a_reader_that_is_gone_is_not_noticed_by_who_logs(configure: Configure, pipe: Pipe) -> None:
    configure("info", "text")
    configure_logs("info", "text", pipe.stream)
    before = dropped()
    os.close(pipe.reading)
    with written_in_background():
        log.info("nobody hears this")
    assert dropped() - before == 1


class Unshowable:
    def __str__(self) -> str:
        raise RuntimeError("no")


def test_what_cannot_be_shown_fails_nobody(configure: Configure, pipe: Pipe) -> None:
    configure("info", "text")
    configure_logs("info", "json", pipe.stream)
    before = dropped()
    with written_in_background():
        log.info("odd", extra={"value": Unshowable()})
        log.info("even")
    assert dropped() - before == 1
    assert [json.loads(line)["event"] for line in pipe.lines()] == ["even"]


@pytest.mark.integration  # it starts a process
def test_a_process_whose_log_nobody_reads_still_ends(tmp_path: Path) -> None:
    program = """
import logging
from service.telemetry.logs import configure_logs, written_in_background
configure_logs("info", "json")
with written_in_background():
    for _ in range(500):
        logging.info("x" * 1000)
print("ended", flush=True)
"""
    reading, writing = os.pipe()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=ROOT,
            stderr=writing,
            stdout=subprocess.PIPE,
            timeout=300,
            check=False,
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert (ended.returncode, ended.stdout) == (0, b"ended\n")
