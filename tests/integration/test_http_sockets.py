"""What only a real socket can do: leave, trickle, send too much, and go on afterwards."""

import contextlib
import re
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from prometheus_client import REGISTRY

from service.api import ApiLimits
from tests.integration.http_server import HttpServer, head, read_answer, request, serving

LIMITS = ApiLimits(max_body_bytes=100_000)


@pytest.fixture(scope="module")
def server() -> Iterator[HttpServer]:
    with serving(LIMITS) as server:
        yield server


@pytest.fixture(autouse=True)
def fresh(server: HttpServer) -> None:
    for pipeline in server.registry.pipelines.values():
        pipeline.started.clear()
        pipeline.cancelled.clear()
        pipeline.late.clear()


def disconnects(route: str = "/v1/classify") -> float:
    labels = {"route": route}
    return REGISTRY.get_sample_value("http_disconnects_total", labels) or 0.0


@pytest.mark.parametrize("how", ["closes", "resets"])
def test_who_leaves_gets_the_work_cancelled(server: HttpServer, how: str) -> None:
    pipeline = server.pipeline("classify", "text")
    before = disconnects()
    connection = server.connect()
    connection.sendall(request("/v1/classify", {"text": "hang"}))
    assert server.has(pipeline.started)
    if how == "resets":
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    assert server.has(pipeline.cancelled)
    _wait_until(lambda: disconnects() == before + 1)


def test_who_leaves_takes_every_item_along_and_no_one_elses(server: HttpServer) -> None:
    leaving, staying = server.pipeline("classify", "text"), server.pipeline("translate", "text")
    with server.connect() as other:
        other.sendall(request("/v1/translate", {"text": "wait"}))
        assert server.has(staying.started)
        connection = server.connect()
        connection.sendall(request("/v1/classify", {"text": ["hang", "hang", "a"]}))
        assert server.has(leaving.started)
        connection.close()
        assert server.has(leaving.cancelled)
        assert not staying.cancelled.is_set()
        server.passes(staying)
        assert read_answer(other).status == 504


def test_half_of_the_clients_leave_and_the_others_are_answered(server: HttpServer) -> None:
    before = disconnects("/v1/translate")
    with contextlib.ExitStack() as open_:
        connections = [open_.enter_context(server.connect()) for _ in range(20)]
        for connection in connections:
            connection.sendall(request("/v1/translate", {"text": ["一", "wait"]}))
        for connection in connections[::2]:
            connection.close()
        _wait_until(lambda: disconnects("/v1/translate") == before + 10)
        server.passes(server.pipeline("translate", "text"))
        for connection in connections[1::2]:
            answer = read_answer(connection)
            assert answer.status == 504
            assert answer.body["results"][0]["translation"] == "[一]"


def test_a_connection_is_of_use_again_and_again(server: HttpServer) -> None:
    with server.connect() as connection:
        for number in range(5):
            connection.sendall(request("/v1/translate", {"text": str(number)}))
            assert read_answer(connection).body["results"][0]["translation"] == f"[{number}]"


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        pytest.param(request("/v1/classify", {"text": ""}), 422, id="an empty text"),
        pytest.param(request("/v1/classify", {"text": "bug"}), 500, id="a bug"),
        pytest.param(request("/nowhere", {"text": "a" * 50_000}), 404, id="an unread body"),
        pytest.param(head("/v1/classify", 300_000) + b"x" * 300_000, 413, id="too long, announced"),
        pytest.param(
            head("/v1/classify", None)
            + b"".join(b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000) for _ in range(6))
            + b"0\r\n\r\n",
            413,
            id="too long, in chunks",
        ),
    ],
)
def test_a_refused_request_does_not_poison_the_connection(
    server: HttpServer, bad: bytes, status: int
) -> None:
    with server.connect() as connection:
        connection.sendall(bad)
        refused = read_answer(connection)
        assert (refused.status, refused.headers.get("connection")) == (status, None)
        connection.sendall(request("/v1/translate", {"text": "after"}))
        assert read_answer(connection).body["results"][0]["translation"] == "[after]"


def test_a_body_far_over_the_limit_is_refused_and_the_connection_closed(
    server: HttpServer,
) -> None:
    with server.connect() as connection:
        connection.sendall(head("/v1/classify", 10**12))
        answer = read_answer(connection)
        assert (answer.status, answer.body["code"]) == (413, "limit_exceeded")
        assert answer.headers["connection"] == "close"
        assert connection.recv(1) == b""


def test_a_body_without_end_is_refused_and_the_connection_closed(server: HttpServer) -> None:
    chunk = b"%x\r\n%s\r\n" % (50_000, b"x" * 50_000)
    with server.connect() as connection:
        connection.sendall(head("/v1/classify", None))
        with contextlib.suppress(ConnectionError):
            for _ in range(9):
                connection.sendall(chunk)
        answer = read_answer(connection)
        assert (answer.status, answer.body["code"]) == (413, "limit_exceeded")
        assert answer.headers["connection"] == "close"


def test_a_body_that_trickles_in_ends_at_the_deadline(server: HttpServer) -> None:
    with server.connect() as connection:
        connection.sendall(head("/v1/classify", 1000, "X-Request-Timeout-Ms: 1500"))
        started = time.monotonic()
        for _ in range(5):
            connection.sendall(b" ")
            time.sleep(0.02)
        answer = read_answer(connection)
        assert (answer.status, answer.body["code"]) == (408, "request_timeout")
        assert answer.headers["connection"] == "close"
        assert time.monotonic() - started >= 1.4
        assert connection.recv(1) == b""


def test_who_leaves_in_the_middle_of_the_body_is_only_counted(server: HttpServer) -> None:
    before = disconnects()
    with server.connect() as connection:
        connection.sendall(head("/v1/classify", 1000) + b"{")
    _wait_until(lambda: disconnects() == before + 1)


def test_an_answer_that_is_asked_for_in_time_comes_in_time(server: HttpServer) -> None:
    with server.connect() as connection:
        started = time.monotonic()
        connection.sendall(request("/v1/classify", {"text": "hang"}, "X-Request-Timeout-Ms: 1000"))
        answer = read_answer(connection)
        assert (answer.status, answer.body["code"]) == (504, "deadline_exceeded")
        assert time.monotonic() - started >= 1.0
        assert server.has(server.pipeline("classify", "text").cancelled)


def test_who_asks_before_sending_is_told_no_at_once(server: HttpServer) -> None:
    """With `Expect: 100-continue` a refused body never crosses the wire."""
    with server.connect() as connection:
        connection.sendall(head("/v1/classify", 200_000, "Expect: 100-continue"))
        assert read_answer(connection).status == 413


@pytest.mark.parametrize(
    ("content_type", "first", "status"),
    [
        ("application/json", b"", 413),  # refused by its head
        ("text/plain", b"Transfer-Encoding: gzip, chunked\r\n", 501),  # cannot be parsed
    ],
)
def test_a_client_that_is_still_sending_when_it_is_refused_reads_why(
    server: HttpServer, content_type: str, first: bytes, status: int
) -> None:
    # Closing the connection at once would reset it, and the client would lose the answer.
    size = 8_000_000
    length = b"" if first else b"Content-Length: %d\r\n" % size
    with server.connect() as connection:
        connection.sendall(
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Content-Type: %b\r\n%b%b\r\n" % (content_type.encode(), first, length)
        )
        for _ in range(size // 100_000):
            connection.sendall(b"x" * 100_000)
        assert read_answer(connection).status == status


def test_pipelined_requests_are_answered_in_order(server: HttpServer) -> None:
    with server.connect() as connection:
        texts = ["1", "2", "3"]
        connection.sendall(b"".join(request("/v1/translate", {"text": t}) for t in texts))
        received = b""
        while received.count(b"translation") < len(texts):
            received += (more := connection.recv(65536))
            assert more, received
        assert re.findall(rb"\[(\d)\]", received) == [b"1", b"2", b"3"]


def test_a_client_that_ends_its_side_is_answered(server: HttpServer) -> None:
    pipeline = server.pipeline("translate", "text")
    with server.connect() as connection:
        connection.sendall(request("/v1/translate", {"text": ["一", "wait"]}))
        connection.shutdown(socket.SHUT_WR)
        assert server.has(pipeline.started)
        server.passes(pipeline)
        answer = read_answer(connection)
        assert answer.status == 504
        assert answer.body["results"][0]["translation"] == "[一]"
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    ("sent", "status", "code"),
    [
        pytest.param(b"hello\r\n\r\n", 400, "malformed_request", id="another protocol"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, "malformed_request", id="no host"),
        pytest.param(
            b"POST /v1/classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            501,
            "not_implemented",
            id="a coding",
        ),
        pytest.param(
            b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505, "http_version_not_supported", id="2.0"
        ),
    ],
)
def test_what_is_not_http_gets_a_problem_and_is_counted(
    server: HttpServer, sent: bytes, status: int, code: str
) -> None:
    before = unreadable(status)
    with server.connect() as connection:
        connection.sendall(sent)
        answer = read_answer(connection)
        assert (answer.status, answer.body["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["x-request-id"] == answer.body["request_id"]
        assert answer.headers["connection"] == "close"
        assert connection.recv(1) == b""
    assert unreadable(status) == before + 1


def test_a_body_that_is_not_http_is_refused_as_a_request_of_its_route(server: HttpServer) -> None:
    labels = {"route": "/v1/classify", "method": "POST", "status": "400", "protocol": "native"}
    before = REGISTRY.get_sample_value("http_requests_total", labels) or 0.0
    with server.connect() as connection:
        connection.sendall(head("/v1/classify", None, "X-Request-Id: mine"))
        time.sleep(0.1)
        connection.sendall(b"nonsense\r\n")
        answer = read_answer(connection)
        assert (answer.status, answer.body["code"]) == (400, "malformed_request")
        assert answer.headers["x-request-id"] == "mine"
        assert connection.recv(1) == b""
    assert REGISTRY.get_sample_value("http_requests_total", labels) == before + 1


def unreadable(status: int) -> float:
    labels = {
        "route": "_unreadable_",
        "method": "_other_",
        "status": str(status),
        "protocol": "native",
    }
    return REGISTRY.get_sample_value("http_requests_total", labels) or 0.0


def _wait_until(condition: Callable[[], bool], within: float = 60.0) -> None:
    until = time.monotonic() + within
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)
