"""Heads of bad syntax, odd versions, methods and targets, great length, odd bytes."""

import random
from collections.abc import Callable, Sequence

from drills.head_case import (
    ANY,
    BODY,
    GET,
    HOST,
    JSON,
    OK,
    POST,
    REFUSED,
    UNKNOWN_CODING,
    UNKNOWN_VERSION,
    Case,
    head,
    length,
    post,
)


def _versions(draw: random.Random) -> Case:
    version = draw.choice(
        [b"HTTP/1.2", b"HTTP/2.0", b"HTTP/9.9", b"HTTP/0.9", b"HTTP/1.10", b"http/1.1", b"HTTP/1.",
         b"HTTP/11", b"HTTPS/1.1", b"ICY/1.1", b"HTTP/-1.1", b"HTTP/1.1 x", b"RTSP/1.0", b"HTTP"]
    )  # fmt: skip
    return Case(
        f"version {version!r}", [head(b"GET /health/live " + version, HOST)], UNKNOWN_VERSION
    )


def _preface(draw: random.Random) -> Case:
    start = draw.choice(
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
         b"SSH-2.0-OpenSSH_9.6\r\n", b"\x00" * 50, b"EHLO me\r\n", b"*1\r\n$4\r\nPING\r\n",
         b"GET\r\n\r\n", b"{}\r\n\r\n", b" GET / HTTP/1.1\r\n\r\n"]
    )  # fmt: skip
    refused = REFUSED | {505}
    return Case(f"not HTTP/1.1 {start[:12]!r}", [start], refused, 0, is_open_ended=True)


def _long(draw: random.Random) -> Case:
    size = draw.choice([9_000, 33_000, 66_000, 140_000, 400_000])
    filler = b"a" * size
    kind, packet = draw.choice(
        [
            ("URI", head(b"GET /health/live?" + filler + b" HTTP/1.1", HOST)),
            ("path", head(b"GET /" + filler + b" HTTP/1.1", HOST)),
            ("header", head(GET, HOST, b"X-Long: " + filler)),
            ("header name", head(GET, HOST, filler + b": x")),
            ("method", head(filler + b" / HTTP/1.1", HOST)),
            ("spaces", head(GET, HOST, b"X-Long:" + b" " * size + b"x")),
            ("cookie", head(GET, HOST, b"Cookie: " + b"a=b; " * (size // 5))),
            ("head without an end", GET + b"\r\n" + HOST + b"\r\nX: " + filler),
        ]
    )
    ended = kind != "head without an end"
    return Case(f"long {kind}", [packet], ANY, int(ended), is_open_ended=not ended)


def _bytes(draw: random.Random) -> Case:
    odd = bytes([draw.choice([0, 1, 7, 8, 11, 12, 27, 127, 128, 160, 255])])
    kind, packet = draw.choice(
        [
            ("value", head(GET, HOST, b"X-Odd: a" + odd + b"b")),
            ("name", head(GET, HOST, b"X-O" + odd + b"d: a")),
            ("path", head(b"GET /health/live" + odd + b" HTTP/1.1", HOST)),
            ("method", head(b"GE" + odd + b"T /health/live HTTP/1.1", HOST)),
            ("version", head(b"GET /health/live HTTP/1" + odd + b".1", HOST)),
            ("Host", head(GET, HOST + odd)),
            ("request id", head(GET, HOST, b"X-Request-Id: a" + odd)),
        ]
    )
    return Case(f"byte {odd!r} in {kind}", [packet], ANY)


def _lines(draw: random.Random) -> Case:
    kind, packet = draw.choice(
        [
            ("obs-fold", head(GET, HOST, b"X-Fold: a", draw.choice([b" b", b"\tb"]))),
            ("fold first", head(GET, b" " + HOST)),
            ("bare LF", b"\n".join([GET, HOST, b"", b""])),
            ("bare LF once", GET + b"\r\n" + HOST + b"\nX: y\r\n\r\n"),
            ("bare CR", GET + b"\r" + HOST + b"\r\n\r\n"),
            ("CR in a value", head(GET, HOST, b"X: a\rb")),
            ("space before colon", head(GET, HOST, b"X-Space : a")),
            ("no colon", head(GET, HOST, b"X-No-Colon")),
            ("no name", head(GET, HOST, b": a")),
            ("two spaces", head(b"GET  /health/live  HTTP/1.1", HOST)),
            ("tabs", head(b"GET\t/health/live\tHTTP/1.1", HOST)),
            ("empty target", head(b"GET  HTTP/1.1", HOST)),
            ("LF LF end", GET + b"\r\n" + HOST + b"\n\n"),
        ]
    )
    return Case(kind, [packet], ANY, 0, is_open_ended=True)


def _leading(draw: random.Random) -> Case:
    return Case("empty lines first", [b"\r\n" * draw.randint(1, 3) + head(GET, HOST)], OK)


def _many(draw: random.Random) -> Case:
    count = draw.choice([50, 99, 101, 500, 3000])
    same = draw.random() < 0.5
    lines = [b"X-%d: %d" % (0 if same else n, n) for n in range(count)]
    return Case(f"{count} headers", [head(GET, HOST, *lines)], ANY)


def _methods(draw: random.Random) -> Case:
    method, target = draw.choice(
        [(b"CONNECT", b"example.org:443"), (b"CONNECT", b"/"), (b"TRACE", b"/"), (b"get", b"/"),
         (b"OPTIONS", b"*"), (b"PROPFIND", b"/"), (b"BREW", b"/"), (b"QUERY", b"/v1/classify"),
         (b"PUT", b"/v1/classify"), (b"DELETE", b"/v1/models/zh-en"), (b"M-SEARCH", b"*"),
         (b"G\xc3\x89T", b"/"), (b"GET", b"*"), (b"PATCH", b"/health/live")]
    )  # fmt: skip
    packet = head(method + b" " + target + b" HTTP/1.1", HOST)
    return Case(f"{method.decode('latin-1')} {target.decode()}", [packet], ANY | {501})


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


def _old_version(draw: random.Random) -> Case:
    lines = draw.choice([[], [b"Connection: keep-alive"], [HOST]])
    if draw.random() < 0.3:
        return Case("HTTP/0.9", [b"GET /health/live\r\n\r\n"], UNKNOWN_VERSION, is_open_ended=True)
    return Case("HTTP/1.0", [head(b"GET /health/live HTTP/1.0", *lines)], OK)


def _slow(draw: random.Random) -> Case:
    whole = post(length(), b"X-Request-Id: slow%d" % draw.randrange(10**6))
    step = draw.choice([1, 2, 7])
    packets = [whole[i : i + step] for i in range(0, len(whole), step)]
    return Case(f"{step} bytes at a time", packets, OK, method="POST")


def _expectations(draw: random.Random) -> Case:
    expect = draw.choice([b"100-continue", b"100-Continue", b"200-ok", b"", b"100-continue, x"])
    packets = [post(b"Expect: " + expect, length(), body=b""), BODY]
    return Case(f"Expect: {expect.decode()}", packets, ANY, method="POST")


def _own_headers(draw: random.Random) -> Case:
    name = draw.choice([b"X-Request-Timeout-Ms", b"X-Request-Priority", b"X-Request-Id",
                        b"traceparent", b"Authorization", b"Content-Type", b"Content-Encoding",
                        b"Accept", b"Cache-Control", b"Origin", b"Range"])  # fmt: skip
    value = draw.choice([b"-1", b"0", b"1e9", b"9" * 400, b"nan", b"\xff", b"a" * 5000, b"",
                         b"1.5", b"'; --", b"\xd9\xa3", b"br", b"*/*;q=x", b"0-9"])  # fmt: skip
    lines = [POST, HOST, length(), name + b": " + value]
    lines += [] if name == b"Content-Type" else [JSON]
    # A deadline of 0 or 1 ms may be over before the answer: 504 is its right answer.
    statuses = ANY | {504} if name == b"X-Request-Timeout-Ms" else ANY
    return Case(f"{name.decode()}: {value[:12]!r}", [head(*lines) + BODY], statuses, method="POST")


def _mutated(draw: random.Random) -> Case:
    data = bytearray(draw.choice([head(GET, HOST, b"Accept: */*"), post(length())]))
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
    return Case("mutated", [bytes(data)], UNKNOWN_CODING | UNKNOWN_VERSION, 0, is_open_ended=True)


MAKERS: Sequence[Callable[[random.Random], Case]] = (
    _versions,
    _preface,
    _long,
    _bytes,
    _lines,
    _leading,
    _many,
    _methods,
    _targets,
    _old_version,
    _slow,
    _expectations,
    _own_headers,
    _mutated,
)
