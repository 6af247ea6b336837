"""Heads that could make two parsers disagree on where a request ends."""

import random
from collections.abc import Callable, Sequence

from drills.head_case import (
    ANY,
    BODY,
    GET,
    HOST,
    OK,
    REFUSED,
    SMUGGLED,
    UNKNOWN_CODING,
    Case,
    chunked,
    head,
    length,
    post,
)


def _hosts(draw: random.Random) -> Case:
    kind, lines, statuses = draw.choice(
        [
            ("two Host", [HOST, draw.choice([HOST, b"Host: other", b"host:"])], REFUSED),
            ("no Host", [b"Accept: */*"], REFUSED),
            ("bad Host", [b"Host: " + draw.choice([b"a b", b"a/b", b"u@a", b"a,b", b"["])], ANY),
            ("empty Host", [b"Host:"], ANY),
        ]
    )
    return Case(kind, [head(GET, *lines)], statuses)


def _codings(draw: random.Random) -> Case:
    coding = draw.choice(
        [b"gzip, chunked", b"gzip", b"chunked, gzip", b"xchunked", b"identity", b"chunked, chunked",
         b"chunked, identity", b"\x0bchunked", b'"chunked"', b"chunked;q=1", b"cow", b"", b","]
    )  # fmt: skip
    name = draw.choice([b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING"])
    body = chunked() + SMUGGLED
    packet = post(name + b": " + coding, b"Connection: close", body=body)
    # An empty coding or only a comma is no coding at all to some parsers: then there is no body,
    # and what follows is refused. In any case there is one answer.
    return Case(f"Transfer-Encoding {coding!r}", [packet], UNKNOWN_CODING | OK, method="POST")


def _smuggling(draw: random.Random) -> Case:
    coding = draw.choice([b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked",
                          b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: Chunked",
                          b" Transfer-Encoding: chunked", b"X: y\r\n\tTransfer-Encoding: chunked",
                          b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                          b"Transfer_Encoding: chunked"])  # fmt: skip
    body = b"0\r\n\r\n" + SMUGGLED
    lines = [length(body), coding]
    draw.shuffle(lines)
    return Case(
        f"Content-Length with {coding!r}",
        [post(*lines, b"Connection: close", body=body)],
        UNKNOWN_CODING,
        method="POST",
    )


def _lengths(draw: random.Random) -> Case:
    value = draw.choice(
        [b"+43", b"-1", b"0x2b", b"43, 44", b"43 43", b"4 3", b"1" + b"0" * 30, b"43;", b"4_3",
         b"43.0", b"\xb2", b"43\r\nContent-Length: 44", b"44\r\nContent-Length: 43", b"", b"NaN",
         b"18446744073709551616", b"9223372036854775808", b"999999999999"]
    )  # fmt: skip
    packet = post(b"Content-Length: " + value, body=BODY + SMUGGLED)
    return Case(f"Content-Length {value!r}", [packet], REFUSED, method="POST")


def _chunks(draw: random.Random) -> Case:
    body = draw.choice(
        [b"-1\r\n", b"+2b\r\n" + BODY, b"0x2b\r\n" + BODY, b"fffffffffffffffff\r\n", b"2g\r\n",
         b"2b\r\n" + BODY + b"xx0\r\n\r\n", b"2b \r\n\r\n", b"\r\n\r\n", b"2b\n" + BODY,
         b"2a\r\n" + BODY + b"\r\n0\r\n\r\n", b"2b;\x00\r\n" + BODY, b"2b\rX" + BODY,
         b"1" + b"0" * 70_000]
    )  # fmt: skip
    packet = post(b"Transfer-Encoding: chunked", body=body + b"\r\n" + SMUGGLED)
    name = body[:20]
    return Case(f"chunk {name!r}", [packet], REFUSED | OK, method="POST", is_open_ended=True)


def _offers(draw: random.Random) -> Case:
    offer = draw.choice(
        [
            [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMAAABk"],
            [b"Connection: upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13"],
            [b"Connection: Upgrade", b"Upgrade: TLS/1.0, HTTP/1.1"],
            [b"Connection: keep-alive, Upgrade", b"Upgrade: foo/2"],
            [b"Upgrade: h2c"],
        ]
    )
    coding, body = draw.choice([(length(), BODY), (b"Transfer-Encoding: chunked", chunked())])
    packets = [post(*offer, coding, body=b""), body]
    if draw.random() < 0.5:
        packets = [b"".join(packets)]
    where = "in one packet" if len(packets) == 1 else "in a second packet"
    return Case(f"upgrade offer {offer[-1]!r}, body {where}", packets, OK, method="POST")


def _smuggled_offer(draw: random.Random) -> Case:
    body = SMUGGLED
    offer = [b"Connection: Upgrade", draw.choice([b"Upgrade: h2c", b"Upgrade: websocket"])]
    packets = [post(*offer, length(body), body=b""), body]
    return Case("upgrade offer, a request as body", packets, REFUSED, method="POST")


def _pipeline(draw: random.Random) -> Case:
    ids = [f"p{draw.getrandbits(40):x}" for _ in range(draw.randint(2, 20))]
    requests = []
    for one in ids:
        name = b"X-Request-Id: " + one.encode()
        requests.append(
            draw.choice(
                [
                    head(GET, HOST, name),
                    post(name, length()),
                    post(name, b"Transfer-Encoding: chunked", body=chunked()),
                    head(b"GET /nowhere HTTP/1.1", HOST, name),
                    post(name, length(b"["))[: -len(BODY)] + b"[",
                ]
            )
        )
    data = b"".join(requests)
    cut = draw.randrange(len(data))
    packets = [data] if draw.random() < 0.5 else [data[:cut], data[cut:]]
    return Case("pipeline", packets, ANY, len(ids), ids=ids)


def _closing_pipeline(draw: random.Random) -> Case:
    closing = head(GET, HOST, draw.choice([b"Connection: close", b"connection: Close, x"]))
    return Case("requests after Connection: close", [closing + SMUGGLED * 3], OK)


def _half_closed(draw: random.Random) -> Case:
    whole = post(length()) if draw.random() < 0.5 else head(GET, HOST)
    return Case("half-closed after a request", [whole], OK, method="POST", is_open_ended=True)


def _cut(draw: random.Random) -> Case:
    whole = post(length())
    part = whole[: draw.randrange(1, len(whole))]
    return Case("half-closed within a request", [part], REFUSED, 0, "POST", is_open_ended=True)


MAKERS: Sequence[Callable[[random.Random], Case]] = (
    _hosts,
    _codings,
    _smuggling,
    _lengths,
    _chunks,
    _offers,
    _smuggled_offer,
    _pipeline,
    _closing_pipeline,
    _half_closed,
    _cut,
)
