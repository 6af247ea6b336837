"""Hostile bodies: JSON, forms and raw images that no client should send."""

import base64
import json
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from drills.images import HOSTILE, good, png

_JSON = "application/json"
_FORM = "multipart/form-data; boundary=edge"
_TEXTS = {"/v1/classify": "text", "/v1/translate": "text", "/v1/embed": "text"}
_IMAGES = {"/v1/classify": "image", "/v1/detect": "image", "/v1/embed": "image"}
ROUTES = ("/v1/classify", "/v1/translate", "/v1/detect", "/v1/embed")
_OTHER_ROUTES = ("/v1/models/zh-en/load", "/v1/models/missing/unload", "/v1/nowhere")
_OVERSIZE = 17 << 20


@dataclass(frozen=True, slots=True)
class Body:
    """What is sent to a route."""

    kind: str
    path: str
    data: bytes
    content_type: str = _JSON
    headers: Mapping[str, str] = field(default_factory=dict)
    bad_items: Sequence[int] = ()
    """Items that the refusal must name; their neighbours must be answered."""
    is_good: bool = False
    """Whether it must be answered with 200."""


def bodies(draw: random.Random, *, large: bool) -> Iterator[Body]:
    """Yield hostile bodies without end, kind by kind.

    Args:
        draw: where they are drawn from.
        large: whether bodies over the limit of 16 MiB are among them.
    """
    kinds = [*_KINDS, _oversize] if large else list(_KINDS)
    while True:
        draw.shuffle(kinds)
        for make in kinds:
            yield make(draw)


def kinds() -> int:
    """Return how many kinds there are."""
    return len(_KINDS)


def encoded(data: bytes) -> str:
    """Return an image as JSON holds it."""
    return base64.b64encode(data).decode()


def form(parts: Sequence[tuple[str, bytes]], end: bytes = b"--edge--\r\n") -> bytes:
    """Return a multipart form with the boundary `edge`."""
    head = b'--edge\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n'
    return b"".join(head % (name.encode(), data) for name, data in parts) + end


def _wanted(draw: random.Random) -> tuple[str, dict[str, Any]]:
    """Return a route and a good request to it."""
    path = draw.choice(ROUTES)
    field_name = draw.choice([t[path] for t in (_TEXTS, _IMAGES) if path in t])
    if field_name == "text":
        return path, {"text": draw.choice(["Stocks fall", "今天天气很好。", "a", "I want pizza"])}
    return path, {"image": encoded(good(draw))}


def _broken_json(draw: random.Random) -> Body:
    path, value = _wanted(draw)
    data = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode()
    odd = draw.choice(
        [data[:-1], data[: draw.randrange(len(data))], data + b"}", data + data, b"",
         b"\xef\xbb\xbf",
         data.replace(b'"', b"'"), data + b" // x", data.decode().encode("utf-16"), b"{,}", b"nul",
         b'{"text": "\xc3\x28"}', b'{"text": "\\ud83d"}', b'{"text": "a\0b"}', b"NaN", b"[", b"\0",
         b'{"text": 1e999}', b'{"text": "a", "top_k": -0}', b'{"version":1' + b"0" * 5000]
    )  # fmt: skip
    return Body("broken JSON", path, odd)


def _deep(draw: random.Random) -> Body:
    depth = draw.choice([31, 33, 1000, 100_000])
    opening, closing = draw.choice([("[", "]"), ('{"a":', "}")])
    inside = opening * depth + ("0" if opening != "[" else "") + closing * depth
    data = draw.choice([inside, f'{{"text": {inside}}}', f'{{"parameters": {inside}}}'])
    return Body(f"{depth} levels", draw.choice(ROUTES), data.encode())


def _many(draw: random.Random) -> Body:
    data = draw.choice(
        [b'{"x":[%s]}' % b",".join([b"[]"] * 200_000),
         json.dumps({f"k{n}": 0 for n in range(50_000)}).encode(),
         json.dumps({"text": ["a"] * 10_000}).encode(), json.dumps({"text": ["a"] * 65}).encode(),
         b'{"text": "%s"}' % (b"a" * 1_000_000), b'{"text": ' + b"9" * 1_000_000 + b"}",
         b'{"text": "%s"}' % (b"\\u0041" * 100_000), b'{"text":"a"' + b" " * 1_000_000 + b"}"]
    )  # fmt: skip
    return Body("many values", draw.choice(ROUTES), data)


def _twice(draw: random.Random) -> Body:
    path, value = _wanted(draw)
    pair = json.dumps(value)[1:-1]
    return Body("duplicate key", path, f"{{{pair}, {pair}}}".encode())


def _wrong_type(draw: random.Random) -> Body:
    path, value = _wanted(draw)
    odd: Any = draw.choice(
        [None, True, 0, -1, 1e308, 10**30, "", " ", [], [[]], {}, {"a": 1}, [None], "a" * 30_000,
         "\u202e\u0000", "\ud7ff\uffff", ["a", 1], "http://169.254.169.254/", "file:///etc/passwd"]
    )  # fmt: skip
    names = [*value, "model", "version", "top_k", "threshold", "iou", "num_beams", "target",
             "max_new_tokens", "length_penalty", "stream", "split", "glossary", "protect",
             "alternatives", "prompt_name", "text_pair", "parameters", "__class__"]  # fmt: skip
    return Body("wrong type", path, json.dumps(value | {draw.choice(names): odd}).encode())


def _mutated(draw: random.Random) -> Body:
    path, value = _wanted(draw)
    data = bytearray(json.dumps(value).encode())
    for _ in range(draw.randint(1, 4)):
        data[draw.randrange(len(data))] = draw.randrange(256)
    return Body("mutated JSON", path, bytes(data))


def _bad_base64(draw: random.Random) -> Body:
    path = draw.choice(list(_IMAGES))
    image = encoded(good(draw))
    odd = draw.choice(
        ["!!!!", image[:-1], image + "=", "=" + image, "", "====", "data:image/png;base64,", "a",
         "data:text/html;base64," + image, "data:,x", "data:image/png;base64;base64," + image,
         image[:20] + "\u0000" + image[20:], "é" * 99, encoded(b""), "data:" + "a" * 70_000]
    )  # fmt: skip
    return Body("bad base64", path, json.dumps({"image": odd}).encode())


def _image(draw: random.Random) -> Body:
    kind, make = draw.choice(list(HOSTILE.items()))
    path, data = draw.choice(list(_IMAGES)), make(draw)
    ways = [
        Body(kind, path, json.dumps({"image": encoded(data)}).encode()),
        Body(kind, path, data, draw.choice(["image/png", "image/jpeg", "image/webp", "image/*"])),
        Body(kind, path, form([("image", data)]), _FORM),
    ]
    return draw.choice(ways)


def _among_good(draw: random.Random) -> Body:
    """Return items of which some are bad: they are named, and the others are answered."""
    items = draw.randint(2, 6)
    bad = sorted(draw.sample(range(items), draw.randint(1, items - 1)))
    if draw.random() < 0.5:
        path = draw.choice(list(_TEXTS))
        values: list[Any] = [f"word {draw.random()}" for _ in range(items)]
        for index in bad:
            values[index] = draw.choice(["", 5, None, [], "a\0b"])
        data = json.dumps({"text": values}).encode()
        return Body("bad items among good texts", path, data, bad_items=bad)
    path = draw.choice(list(_IMAGES))
    images = [good(draw) for _ in range(items)]
    for index in bad:
        images[index] = draw.choice([b"noise", images[index][:40], png(65_000, 65_000)])
    if draw.random() < 0.5:
        parts = [("image", image) for image in images]
        return Body("bad items among good files", path, form(parts), _FORM, bad_items=bad)
    data = json.dumps({"image": [encoded(image) for image in images]}).encode()
    return Body("bad items among good images", path, data, bad_items=bad)


def _broken_form(draw: random.Random) -> Body:
    path = draw.choice(list(_IMAGES))
    part = form([("image", good(draw))])
    data, content_type = draw.choice(
        [(part, "multipart/form-data"), (part[: draw.randrange(len(part))], _FORM), (b"x", _FORM),
         (part, "multipart/form-data; boundary=" + "e" * 5000), (form([]), _FORM), (b"", _FORM),
         (form([("image", b"")]), _FORM), (form([("image", b"a")] * 2000), _FORM),
         (part.replace(b"image", b"i\0mage"), _FORM), (part.replace(b"\r\n", b"\n"), _FORM),
         (part.replace(b"form-data", b"attachment"), _FORM), (form([("x" * 9000, b"a")]), _FORM),
         (b"--edge\r\n" + b"X: y\r\n" * 5000 + b"\r\n\r\n--edge--\r\n", _FORM),
         (part.replace(b'"image"', b"image*=utf-8''%ff"), _FORM), (b"--edge" * 9000, _FORM)]
    )  # fmt: skip
    return Body("broken form", path, data, content_type)


def _content_types(draw: random.Random) -> Body:
    path, value = _wanted(draw)
    content_type = draw.choice(
        ["", "text/plain", "application/xml", "application/json; charset=gbk", "a", "/", "*/*",
         "application/x-www-form-urlencoded", "image/svg+xml", "application/json;" * 200,
         "multipart/mixed; boundary=edge", "application/problem+json", "image/png; q=\x01"]
    )  # fmt: skip
    return Body("content type", path, json.dumps(value).encode(), content_type)


def _encodings(draw: random.Random) -> Body:
    path, value = _wanted(draw)
    encoding = draw.choice(["gzip", "br", "deflate", "zstd", "identity, gzip", "x", "gzip, gzip"])
    headers = {"Content-Encoding": encoding}
    return Body("content encoding", path, json.dumps(value).encode(), headers=headers)


def _elsewhere(draw: random.Random) -> Body:
    value = draw.choice([{}, {"version": -1}, {"version": 10**30}, {"precision": "x" * 999}, []])
    path = draw.choice(_OTHER_ROUTES)
    return Body("without a token, or nowhere", path, json.dumps(value).encode())


def _query(draw: random.Random) -> Body:
    query = draw.choice(["?top_k=x", "?model=a&model=b", "?image=x", "?version=one", "?model=%ff",
                         "?" + "a=b&" * 3000, "?top_k=1e9", "?%00=1"])  # fmt: skip
    return Body("query", draw.choice(ROUTES) + query, good(draw), "image/png")


def _good(draw: random.Random) -> Body:
    path, value = _wanted(draw)
    return Body("good", path, json.dumps(value).encode(), is_good=True)


def _oversize(draw: random.Random) -> Body:
    content_type = draw.choice([_JSON, "image/png", _FORM, "text/plain"])
    return Body("over the limit", draw.choice(ROUTES), bytes(_OVERSIZE), content_type)


_KINDS: Sequence[Callable[[random.Random], Body]] = (
    _broken_json, _deep, _many, _twice, _wrong_type, _wrong_type, _wrong_type, _mutated, _mutated,
    _bad_base64, _image, _image, _image, _image, _among_good, _among_good, _broken_form,
    _content_types, _encodings, _elsewhere, _query, _good,
)  # fmt: skip
