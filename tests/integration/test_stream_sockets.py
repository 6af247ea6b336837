"""Streams on a real socket: clients that disconnect, do not read, or continue afterwards."""

import logging
import socket
import time
from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from service.api import ApiLimits
from tests.integration.http_server import HttpServer, read_answer, request, serving
from tests.unit.api.fakes import FakePipeline

pytestmark = pytest.mark.looptime(False)


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with serving(ApiLimits(max_document_characters=10_000_000)) as server:
        yield server


@pytest.fixture
def translator(server: HttpServer) -> FakePipeline:
    found = server.pipeline("translate", "text")
    found.started.clear()
    found.cancelled.clear()
    found.asked.clear()
    return found


def asked(text: str, *headers: str) -> bytes:
    return request("/v1/translate", {"text": text, "stream": "segments"}, *headers)


def read_until(connection: socket.socket, sought: bytes) -> bytes:
    read = b""
    while sought not in read:
        received = connection.recv(65536)
        assert received, read
        read += received
    return read


def wait_for(condition: object, within: float = 60.0) -> None:
    patience = time.monotonic() + within
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < patience
        time.sleep(0.01)


def open_streams() -> float:
    return REGISTRY.get_sample_value("http_streams", {"route": "/v1/translate"}) or 0.0


def test_the_first_lines_are_here_while_the_next_is_still_awaited(
    server: HttpServer, translator: FakePipeline
) -> None:
    with server.connect() as connection:
        connection.sendall(asked("一\n二\nhang\n四", "X-Request-Timeout-Ms: 30000"))
        told = read_until(connection, b'"done":2')
        assert told.startswith(b"HTTP/1.1 200 OK\r\n")
        assert "[二]".encode() in told
        assert open_streams() == 1
        assert not translator.cancelled.is_set()


def test_who_leaves_a_stream_gets_its_work_cancelled(
    server: HttpServer, translator: FakePipeline
) -> None:
    connection = server.connect()
    connection.sendall(asked("一\nhang\nhang b\nhang c"))
    read_until(connection, b'"done":1')
    assert server.has(translator.started)
    connection.close()
    assert server.has(translator.cancelled, within=0.5)
    wait_for(lambda: translator.holders == 0)
    wait_for(lambda: open_streams() == 0)


def test_who_leaves_before_the_first_line_is_noticed_at_once(
    server: HttpServer, translator: FakePipeline
) -> None:
    connection = server.connect()
    connection.sendall(asked("hang\n二"))
    assert server.has(translator.started)
    started = time.monotonic()
    connection.close()
    assert server.has(translator.cancelled)
    assert time.monotonic() - started < 0.15


def test_who_does_not_read_is_computed_for_no_further_and_cut_off_at_the_deadline(
    server: HttpServer, translator: FakePipeline, caplog: pytest.LogCaptureFixture
) -> None:
    text = "\n".join("长" * 99 for _ in range(9_000))  # more than a socket holds
    with server.connect() as connection, caplog.at_level(logging.ERROR):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(asked(text, "X-Request-Timeout-Ms: 12000"))
        wait_for(lambda: translator.asked)
        known = 0
        while known < len(translator.asked):
            known = len(translator.asked)
            time.sleep(0.5)
        assert 0 < known < 9_000
        assert open_streams() == 1
        wait_for(lambda: open_streams() == 0)
        assert translator.holders == 0
    assert not [record for record in caplog.records if record.exc_info]


def test_a_connection_is_of_use_again_after_a_stream(
    server: HttpServer, translator: FakePipeline
) -> None:
    with server.connect() as connection:
        for _ in range(2):
            connection.sendall(asked("一\n二"))
            told = read_until(connection, b"\r\n0\r\n\r\n")
            assert told.count(b'"event":"segment"') == 2
        connection.sendall(request("/v1/translate", {"text": "三"}))
        assert read_answer(connection).body["results"][0]["translation"] == "[三]"
