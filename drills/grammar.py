"""A grammar of hostile request heads: smuggling, bad syntax, bad versions, offers, pipelines."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

HOST = b"Host: 127.0.0.1"
_BODY = b'{"text": "Stocks fall as oil prices slide"}'
_POST = b"POST /v1/classify HTTP/1.1"
_GET = b"GET /health/live HTTP/1.1"
_TYPE = b"Content-Type: application/json"
_SMUGGLED = _GET + b"\r\n" + HOST + b"\r\nX-Request-Id: smuggled\r\n\r\n"
REFUSED = frozenset(range(400, 500))
ANY = frozenset({200, 204}) | REFUSED
OK = frozenset({200})
UNKNOWN_CODING = REFUSED | {501}


@dataclass(frozen=True, slots=True)
class Case:
    """What is sent on one connection and which answers are right."""

    kind: str
    packets: Sequence[bytes]
    statuses: frozenset[int]
    """Statuses that an answer may have."""
    answers: int = 1
    """Answers that must come; the fewest, where `is_open_ended`."""
    method: str = "GET"
    ids: Sequence[str] = ()
    """Request ids that the answers must carry, in order."""
    is_open_ended: bool = False
    """Whether the bytes may be an incomplete request, or more than one: the sender half-closes."""


def head(*lines: bytes) -> bytes:
    """Return a head of these lines."""
    return b"\r\n".join([*lines, b"", b""])


def cases(draw: random.Random) -> Iterator[Case]:
    """Yield cases without end: every kind in turn, each time with other details."""
    while True:
        order = list(_KINDS)
        draw.shuffle(order)
        for make in order:
            yield make(draw)


def kinds() -> int:
    """Return how many kinds of cases there are."""
    return len(_KINDS)


def _post(*lines: bytes, body: bytes = _BODY, start: bytes = _POST) -> bytes:
    return head(start, HOST, _TYPE, *lines) + body


def _length(body: bytes = _BODY) -> bytes:
    return b"Content-Length: %d" % len(body)


def _chunked(body: bytes = _BODY) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def _hosts(draw: random.Random) -> Case:
    kind, lines, statuses = draw.choice(
        [
            ("two Host", [HOST, draw.choice([HOST, b"Host: other", b"host:"])], REFUSED),
            ("no Host", [b"Accept: */*"], REFUSED),
            ("bad Host", [b"Host: " + draw.choice([b"a b", b"a/b", b"u@a", b"a,b", b"["])], ANY),
            ("empty Host", [b"Host:"], ANY),
        ]
    )
    return Case(kind, [head(_GET, *lines)], statuses)


def _codings(draw: random.Random) -> Case:
    coding = draw.choice(
        [b"gzip, chunked", b"gzip", b"chunked, gzip", b"xchunked", b"identity", b"chunked, chunked",
         b"chunked, identity", b"\x0bchunked", b'"chunked"', b"chunked;q=1", b"cow", b"", b","]
    )  # fmt: skip
    name = draw.choice([b"Transfer-Encoding", b"transfer-encoding", b"TRANSFER-ENCODING"])
    body = _chunked() + _SMUGGLED
    packet = _post(name + b": " + coding, b"Connection: close", body=body)
    # An empty coding or only a comma is no coding at all to some parsers: then there is no body,
    # and what follows is refused. In any case there is one answer.
    return Case(f"Transfer-Encoding {coding!r}", [packet], UNKNOWN_CODING | OK, method="POST")


def _smuggling(draw: random.Random) -> Case:
    coding = draw.choice([b"Transfer-Encoding: chunked", b"Transfer-Encoding : chunked",
                          b"Transfer-Encoding:\tchunked", b"Transfer-Encoding: Chunked",
                          b" Transfer-Encoding: chunked", b"X: y\r\n\tTransfer-Encoding: chunked",
                          b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
                          b"Transfer_Encoding: chunked"])  # fmt: skip
    body = b"0\r\n\r\n" + _SMUGGLED
    lines = [_length(body), coding]
    draw.shuffle(lines)
    return Case(
        f"Content-Length beside {coding!r}",
        [_post(*lines, b"Connection: close", body=body)],
        UNKNOWN_CODING,
        method="POST",
    )


def _lengths(draw: random.Random) -> Case:
    value = draw.choice(
        [b"+43", b"-1", b"0x2b", b"43, 44", b"43 43", b"4 3", b"1" + b"0" * 30, b"43;", b"4_3",
         b"43.0", b"\xb2", b"43\r\nContent-Length: 44", b"44\r\nContent-Length: 43", b"", b"NaN",
         b"18446744073709551616", b"9223372036854775808", b"999999999999"]
    )  # fmt: skip
    packet = _post(b"Content-Length: " + value, body=_BODY + _SMUGGLED)
    return Case(f"Content-Length {value!r}", [packet], REFUSED, method="POST")


def _chunks(draw: random.Random) -> Case:
    body = draw.choice(
        [b"-1\r\n", b"+2b\r\n" + _BODY, b"0x2b\r\n" + _BODY, b"fffffffffffffffff\r\n", b"2g\r\n",
         b"2b\r\n" + _BODY + b"xx0\r\n\r\n", b"2b \r\n\r\n", b"\r\n\r\n", b"2b\n" + _BODY,
         b"2a\r\n" + _BODY + b"\r\n0\r\n\r\n", b"2b;\x00\r\n" + _BODY, b"2b\rX" + _BODY,
         b"1" + b"0" * 70_000]
    )  # fmt: skip
    packet = _post(b"Transfer-Encoding: chunked", body=body + b"\r\n" + _SMUGGLED)
    name = body[:20]
    return Case(f"chunk {name!r}", [packet], REFUSED | OK, method="POST", is_open_ended=True)


def _versions(draw: random.Random) -> Case:
    version = draw.choice(
        [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/0.9", b"HTTP/1.10", b"http/1.1", b"HTTP/1.",
         b"HTTP/11", b"HTTPS/1.1", b"ICY/1.1", b"HTTP/-1.1", b"HTTP/1.1 x", b"RTSP/1.0", b"HTTP"]
    )  # fmt: skip
    return Case(f"version {version!r}", [head(b"GET /health/live " + version, HOST)], ANY)


def _preface(draw: random.Random) -> Case:
    start = draw.choice(
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
         b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 50, b"EHLO me\r\n", b"*1\r\n$4\r\nPING\r\n",
         b"GET\r\n\r\n", b"{}\r\n\r\n", b" GET / HTTP/1.1\r\n\r\n"]
    )  # fmt: skip
    return Case(f"not HTTP/1.1 {start[:12]!r}", [start], REFUSED, 0, is_open_ended=True)


def _long(draw: random.Random) -> Case:
    size = draw.choice([9_000, 33_000, 66_000, 140_000, 400_000])
    filler = b"a" * size
    kind, packet = draw.choice(
        [
            ("URI", head(b"GET /health/live?" + filler + b" HTTP/1.1", HOST)),
            ("path", head(b"GET /" + filler + b" HTTP/1.1", HOST)),
            ("header", head(_GET, HOST, b"X-Long: " + filler)),
            ("header name", head(_GET, HOST, filler + b": x")),
            ("method", head(filler + b" / HTTP/1.1", HOST)),
            ("spaces", head(_GET, HOST, b"X-Long:" + b" " * size + b"x")),
            ("cookie", head(_GET, HOST, b"Cookie: " + b"a=b; " * (size // 5))),
            ("head without an end", _GET + b"\r\n" + HOST + b"\r\nX: " + filler),
        ]
    )
    ended = kind != "head without an end"
    return Case(f"long {kind}", [packet], ANY, int(ended), is_open_ended=not ended)


def _bytes(draw: random.Random) -> Case:
    odd = bytes([draw.choice([0, 1, 7, 8, 11, 12, 27, 127, 128, 160, 255])])
    kind, packet = draw.choice(
        [
            ("value", head(_GET, HOST, b"X-Odd: a" + odd + b"b")),
            ("name", head(_GET, HOST, b"X-O" + odd + b"d: a")),
            ("path", head(b"GET /health/live" + odd + b" HTTP/1.1", HOST)),
            ("method", head(b"GE" + odd + b"T /health/live HTTP/1.1", HOST)),
            ("version", head(b"GET /health/live HTTP/1" + odd + b".1", HOST)),
            ("Host", head(_GET, HOST + odd)),
            ("request id", head(_GET, HOST, b"X-Request-Id: a" + odd)),
        ]
    )
    return Case(f"byte {odd!r} in {kind}", [packet], ANY)


def _lines(draw: random.Random) -> Case:
    kind, packet = draw.choice(
        [
            ("obs-fold", head(_GET, HOST, b"X-Fold: a", draw.choice([b" b", b"\tb"]))),
            ("fold first", head(_GET, b" " + HOST)),
            ("bare LF", b"\n".join([_GET, HOST, b"", b""])),
            ("bare LF once", _GET + b"\r\n" + HOST + b"\nX: y\r\n\r\n"),
            ("bare CR", _GET + b"\r" + HOST + b"\r\n\r\n"),
            ("CR in a value", head(_GET, HOST, b"X: a\rb")),
            ("space before colon", head(_GET, HOST, b"X-Space : a")),
            ("no colon", head(_GET, HOST, b"X-No-Colon")),
            ("no name", head(_GET, HOST, b": a")),
            ("two spaces", head(b"GET  /health/live  HTTP/1.1", HOST)),
            ("tabs", head(b"GET\t/health/live\tHTTP/1.1", HOST)),
            ("empty target", head(b"GET  HTTP/1.1", HOST)),
            ("LF LF end", _GET + b"\r\n" + HOST + b"\n\n"),
        ]
    )
    return Case(kind, [packet], ANY, 0, is_open_ended=True)


def _leading(draw: random.Random) -> Case:
    return Case("empty lines first", [b"\r\n" * draw.randint(1, 3) + head(_GET, HOST)], OK)


def _many(draw: random.Random) -> Case:
    count = draw.choice([50, 99, 101, 500, 3000])
    same = draw.random() < 0.5
    lines = [b"X-%d: %d" % (0 if same else n, n) for n in range(count)]
    return Case(f"{count} headers", [head(_GET, HOST, *lines)], ANY)


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
    coding, body = draw.choice(
        [(_length(), _BODY), (b"Transfer-Encoding: chunked", _chunked())]
    )
    packets = [_post(*offer, coding, body=b""), body]
    if draw.random() < 0.5:
        packets = [b"".join(packets)]
    where = "in one packet" if len(packets) == 1 else "in a second packet"
    return Case(f"upgrade offer {offer[-1]!r}, body {where}", packets, OK, method="POST")


def _smuggled_offer(draw: random.Random) -> Case:
    body = _SMUGGLED
    offer = [b"Connection: Upgrade", draw.choice([b"Upgrade: h2c", b"Upgrade: websocket"])]
    packets = [_post(*offer, _length(body), body=b""), body]
    return Case("upgrade offer, a request as body", packets, REFUSED, method="POST")


def _methods(draw: random.Random) -> Case:
    method, target = draw.choice(
        [(b"CONNECT", b"example.org:443"), (b"CONNECT", b"/"), (b"TRACE", b"/"), (b"get", b"/"),
         (b"OPTIONS", b"*"), (b"PROPFIND", b"/"), (b"BREW", b"/"), (b"QUERY", b"/v1/classify"),
         (b"PUT", b"/v1/classify"), (b"DELETE", b"/v1/models/zh-en"), (b"M-SEARCH", b"*"),
         (b"G\xc3\x89T", b"/"), (b"GET", b"*"), (b"PATCH", b"/health/live")]
    )  # fmt: skip
    packet = head(method + b" " + target + b" HTTP/1.1", HOST)
    return Case(f"{method.decode('latin-1')} {target.decode()}", [packet], ANY)


def _targets(draw: random.Random) -> Case:
    target, statuses = draw.choice(
        [(b"http://127.0.0.1/health/live", OK), (b"HTTP://other:80/health/live", ANY),
         (b"http:///health/live", ANY), (b"//health/live", ANY), (b"/../../etc/passwd", ANY),
         (b"/%00", ANY), (b"/%", ANY), (b"/%zz", ANY), (b"/v1/models/%2e%2e%2f", ANY),
         (b"/v1/models/" + b"%ff" * 50, ANY), (b"/\xe4\xbd\xa0", ANY), (b"?", ANY), (b"#", ANY),
         (b"/health/live#x", ANY), (b"/health/live?" + b"a&" * 3000, ANY), (b"health/live", ANY),
         (b"ftp://a/b", ANY), (b"http://[::1/", ANY), (b"http://a:99999/health/live", ANY)]
    )  # fmt: skip
    name = target[:40].decode("latin-1")
    return Case(f"target {name}", [head(b"GET " + target + b" HTTP/1.1", HOST)], statuses)


def _pipeline(draw: random.Random) -> Case:
    ids = [f"p{draw.getrandbits(40):x}" for _ in range(draw.randint(2, 20))]
    requests = []
    for one in ids:
        name = b"X-Request-Id: " + one.encode()
        requests.append(
            draw.choice(
                [
                    head(_GET, HOST, name),
                    _post(name, _length()),
                    _post(name, b"Transfer-Encoding: chunked", body=_chunked()),
                    head(b"GET /nowhere HTTP/1.1", HOST, name),
                    _post(name, _length(b"[")) [:-len(_BODY)] + b"[",
                ]
            )
        )
    data = b"".join(requests)
    cut = draw.randrange(len(data))
    packets = [data] if draw.random() < 0.5 else [data[:cut], data[cut:]]
    return Case("pipeline", packets, ANY, len(ids), ids=ids)


def _closing_pipeline(draw: random.Random) -> Case:
    closing = head(_GET, HOST, draw.choice([b"Connection: close", b"connection: Close, x"]))
    return Case("requests after Connection: close", [closing + _SMUGGLED * 3], OK)


def _old_version(draw: random.Random) -> Case:
    lines = draw.choice([[], [b"Connection: keep-alive"], [HOST]])
    if draw.random() < 0.3:
        return Case("HTTP/0.9", [b"GET /health/live\r\n\r\n"], ANY, is_open_ended=True)
    return Case("HTTP/1.0", [head(b"GET /health/live HTTP/1.0", *lines)], OK)


def _half_closed(draw: random.Random) -> Case:
    whole = _post(_length()) if draw.random() < 0.5 else head(_GET, HOST)
    return Case("half-closed after a request", [whole], OK, method="POST", is_open_ended=True)


def _cut(draw: random.Random) -> Case:
    whole = _post(_length())
    part = whole[: draw.randrange(1, len(whole))]
    return Case("half-closed within a request", [part], REFUSED, 0, "POST", is_open_ended=True)


def _slow(draw: random.Random) -> Case:
    whole = _post(_length(), b"X-Request-Id: slow%d" % draw.randrange(10**6))
    step = draw.choice([1, 2, 7])
    packets = [whole[i : i + step] for i in range(0, len(whole), step)]
    return Case(f"{step} bytes at a time", packets, OK, method="POST")


def _expectations(draw: random.Random) -> Case:
    expect = draw.choice([b"100-continue", b"100-Continue", b"200-ok", b"", b"100-continue, x"])
    packets = [_post(b"Expect: " + expect, _length(), body=b""), _BODY]
    return Case(f"Expect: {expect.decode()}", packets, ANY, method="POST")


def _own_headers(draw: random.Random) -> Case:
    name = draw.choice([b"X-Request-Timeout-Ms", b"X-Request-Priority", b"X-Request-Id",
                        b"traceparent", b"Authorization", b"Content-Type", b"Content-Encoding",
                        b"Accept", b"Cache-Control", b"Origin", b"Range"])  # fmt: skip
    value = draw.choice([b"-1", b"0", b"1e9", b"9" * 400, b"nan", b"\xff", b"a" * 5000, b"", b"00-0",
                         b"1.5", b"'; --", b"\xd9\xa3", b"br", b"*/*;q=x", b"bytes=5-1"])  # fmt: skip
    lines = [_POST, HOST, _length(), name + b": " + value]
    lines += [] if name == b"Content-Type" else [_TYPE]
    # A deadline of 0 or 1 ms may be over before the answer: 504 is its right answer.
    statuses = ANY | {504} if name == b"X-Request-Timeout-Ms" else ANY
    return Case(f"{name.decode()}: {value[:12]!r}", [head(*lines) + _BODY], statuses, method="POST")


def _mutated(draw: random.Random) -> Case:
    data = bytearray(draw.choice([head(_GET, HOST, b"Accept: */*"), _post(_length())]))
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(data))
        action = draw.randrange(4)
        if action == 0:
            data[place] = draw.randrange(256)
        elif action == 1:
            del data[place : place + draw.randint(1, 8)]
        elif action == 2:
            data[place:place] = draw.randbytes(draw.randint(1, 8))
        else:
            data[place:place] = data[place : place + draw.randint(1, 40)]
    return Case("mutated", [bytes(data)], UNKNOWN_CODING | OK | {204}, 0, is_open_ended=True)


_KINDS: Sequence[Callable[[random.Random], Case]] = (
    _hosts, _codings, _smuggling, _lengths, _chunks, _versions, _preface, _long, _bytes, _lines,
    _leading, _many, _offers, _smuggled_offer, _methods, _targets, _pipeline, _closing_pipeline,
    _old_version, _half_closed, _cut, _slow, _expectations, _own_headers, _mutated, _mutated,
)  # fmt: skip
