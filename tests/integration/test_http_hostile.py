"""Hostile input for every task: each gets its problem, none a 500."""

import base64
import io
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from service.api import ApiContext, ApiLimits, Lifecycle, build_api
from tests.unit.api.fakes import FakeRegistry
from tests.unit.api.images import JPEG, PNG, SVG

LIMITS = ApiLimits(
    max_body_bytes=60_000, max_items=8, max_characters=100, max_document_characters=100
)
JSON = "application/json"
FORM = "multipart/form-data; boundary=edge"

MALFORMED = 400, "malformed_request"
NOT_FOUND = 404, "model_not_found"
LIMIT = 413, "limit_exceeded"
UNSUPPORTED = 415, "unsupported_media_type"
INVALID = 422, "invalid_input"


@dataclass(frozen=True)
class Hostile:
    """A request and the only right answer to it."""

    name: str
    body: bytes
    expected: tuple[int, str]
    content_type: str | None = JSON
    headers: dict[str, str] = field(default_factory=dict)
    query: str = ""


def asked(name: str, expected: tuple[int, str], **body: Any) -> Hostile:
    return Hostile(name, json.dumps(body).encode(), expected)


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


def form(*parts: tuple[str, bytes], end: bytes = b"--edge--\r\n") -> bytes:
    head = b'--edge\r\nContent-Disposition: form-data; name="%s"; filename="f"\r\n\r\n%s\r\n'
    return b"".join(head % (name.encode(), data) for name, data in parts) + end


def bomb() -> bytes:
    """Return a PNG of a few kilobytes that would decode to 80 million pixels."""
    buffer = io.BytesIO()
    Image.new("1", (10_000, 8_000)).save(buffer, "PNG")
    return buffer.getvalue()


def noise() -> bytes:
    return np.random.default_rng(0).bytes(2000)


def unreadable(key: str, value: str) -> Sequence[Hostile]:
    """Return bodies that are no JSON, or not of any task's shape."""
    pair = f'"{key}": {json.dumps(value)}'
    quoted = json.dumps(key)
    return [
        Hostile("nothing at all", b"", MALFORMED),
        Hostile("no content type", b"{}", UNSUPPORTED, None),
        Hostile("plain text", b"hello", UNSUPPORTED, "text/plain"),
        Hostile("urlencoded form", b"text=a", UNSUPPORTED, "application/x-www-form-urlencoded"),
        Hostile("xml", b"<text/>", UNSUPPORTED, "application/xml"),
        Hostile("charset gbk", b"{}", UNSUPPORTED, f"{JSON}; charset=gbk"),
        Hostile("broken gzip", b"\x1f\x8b", MALFORMED, JSON, {"content-encoding": "gzip"}),
        Hostile("brotli", b"\x1f\x8b", UNSUPPORTED, JSON, {"content-encoding": "br"}),
        Hostile("cut short", f"{{{pair}".encode(), MALFORMED),
        Hostile("trailing comma", f"{{{pair},}}".encode(), MALFORMED),
        Hostile("two documents", f"{{{pair}}}{{{pair}}}".encode(), MALFORMED),
        Hostile("comment", f"{{{pair}}} // x".encode(), MALFORMED),
        Hostile("UTF-16", f"{{{pair}}}".encode("utf-16"), MALFORMED),
        Hostile("bad UTF-8", f"{{{quoted}: ".encode() + b'"\xc3\x28"}', MALFORMED),
        Hostile("lone surrogate", f'{{{quoted}: "\\ud83d"}}'.encode(), MALFORMED),
        Hostile("raw null byte", f'{{{quoted}: "a\0b"}}'.encode(), MALFORMED),
        Hostile("key given twice", f"{{{pair}, {pair}}}".encode(), MALFORMED),
        Hostile("100,000 brackets", b"[" * 50_000, MALFORMED),
        Hostile("deep in a key", f"{{{quoted}: {'[' * 40}{']' * 40}}}".encode(), MALFORMED),
        Hostile("many empty lists", b'{"x":[%s]}' % b",".join([b"[]"] * 9000), LIMIT),
        Hostile("many keys", json.dumps({f"k{i}": 0 for i in range(2_500)}).encode(), LIMIT),
        Hostile("body over the limit", b'{"text": "%s"}' % (b"a" * 60_000), LIMIT),
        Hostile("a list", b"[]", INVALID),
        Hostile("a string", json.dumps(value).encode(), INVALID),
        Hostile("null", b"null", INVALID),
        Hostile("NaN", b"NaN", INVALID),
        Hostile("an empty object", b"{}", INVALID),
        Hostile("unknown key", f'{{{pair}, "modle": "a"}}'.encode(), INVALID),
        Hostile("python's own key", f'{{{pair}, "__class__": "a"}}'.encode(), INVALID),
        Hostile("query beside JSON", f"{{{pair}}}".encode(), INVALID, query="?model=a"),
        Hostile(
            "timeout in words",
            f"{{{pair}}}".encode(),
            MALFORMED,
            headers={"x-request-timeout-ms": "soon"},
        ),
        Hostile(
            "priority too high",
            f"{{{pair}}}".encode(),
            MALFORMED,
            headers={"x-request-priority": "999"},
        ),
        Hostile(
            "huge model version",
            f'{{{pair}, "version": 1{"0" * 400}}}'.encode(),
            INVALID,
        ),
        Hostile(
            "version of 5,000 digits",
            f'{{{pair}, "version": 1{"0" * 5000}}}'.encode(),
            MALFORMED,
        ),
    ]


def misshapen(key: str, value: str) -> Sequence[Hostile]:
    """Return requests with one field of a wrong kind."""
    return [
        asked("number for it", INVALID, **{key: 5}),
        asked("object for it", INVALID, **{key: {"a": 1}}),
        asked("null for it", INVALID, **{key: None}),
        asked("empty list", INVALID, **{key: []}),
        asked("list with a null", INVALID, **{key: [value, None]}),
        asked("list in a list", INVALID, **{key: [[value]]}),
        asked("empty string", INVALID, **{key: ""}),
        asked("list with an empty string", INVALID, **{key: [value, ""]}),
        asked("too many items", LIMIT, **{key: [value] * 9}),
        asked("model of no name", INVALID, **{key: value}, model=""),
        asked("model of a long name", INVALID, **{key: value}, model="m" * 5000),
        asked("model as a path", NOT_FOUND, **{key: value}, model="../../etc/passwd"),
        asked("model in a list", INVALID, **{key: value}, model=["a"]),
        asked("unknown model", NOT_FOUND, **{key: value}, model="nobody"),
        asked("unknown version", NOT_FOUND, **{key: value}, version=99),
        asked("version zero", INVALID, **{key: value}, version=0),
        asked("version as text", INVALID, **{key: value}, version="1"),
        asked("version as a truth", INVALID, **{key: value}, version=True),
    ]


def texts() -> Sequence[Hostile]:
    return [
        asked("null character", INVALID, text="a\0b"),
        asked("over the characters", LIMIT, text="a" * 101),
        asked("one over the characters", LIMIT, text=["a", "a" * 101]),
    ]


def images() -> Sequence[Hostile]:
    bad_crc = PNG[:-20] + bytes(8) + PNG[-12:]
    return [
        asked("no base64", INVALID, image="!!!!"),
        asked("base64 without padding", INVALID, image=encoded(PNG).rstrip("=")[:-1]),
        asked("URL", INVALID, image="http://169.254.169.254/latest/meta-data"),
        asked("file URL", INVALID, image="file:///etc/passwd"),
        asked("data URI of html", UNSUPPORTED, image=f"data:text/html;base64,{encoded(PNG)}"),
        asked("data URI not base64", INVALID, image="data:image/png,%89PNG"),
        asked("SVG", UNSUPPORTED, image=encoded(SVG)),
        asked("noise", UNSUPPORTED, image=encoded(noise())),
        asked("PNG cut short", INVALID, image=encoded(PNG[: len(PNG) // 2])),
        asked("PNG of a wrong checksum", INVALID, image=encoded(bad_crc)),
        asked("JPEG cut short", INVALID, image=encoded(JPEG[:200])),
        asked("decompression bomb", LIMIT, image=encoded(bomb())),
        Hostile("raw SVG", SVG, UNSUPPORTED, "image/svg+xml"),
        Hostile("raw, empty", b"", INVALID, "image/png"),
        Hostile("raw noise", noise(), UNSUPPORTED, "image/png"),
        Hostile("raw, unknown parameter", PNG, INVALID, "image/png", query="?topk=1"),
        Hostile("raw, parameter twice", PNG, MALFORMED, "image/png", query="?model=a&model=b"),
        Hostile("raw, image in the query", PNG, MALFORMED, "image/png", query="?image=x"),
        Hostile("raw, version in words", PNG, INVALID, "image/png", query="?version=one"),
        Hostile("raw, bad escape", PNG, MALFORMED, "image/png", query="?model=%ff"),
        Hostile("form without a boundary", form(("image", PNG)), MALFORMED, "multipart/form-data"),
        Hostile("form without parts", form(), INVALID, FORM),
        Hostile("form without an end", form(("image", PNG), end=b""), MALFORMED, FORM),
        Hostile("form of garbage", b"garbage", MALFORMED, FORM),
        Hostile("form with another field", form(("file", PNG)), INVALID, FORM),
        Hostile("form with an empty file", form(("image", b"")), INVALID, FORM),
        Hostile("form with too many files", form(*[("image", PNG)] * 9), LIMIT, FORM),
        Hostile("form with far too many files", form(*[("image", PNG)] * 99), LIMIT, FORM),
        Hostile("form with one bad file", form(("image", PNG), ("image", SVG)), UNSUPPORTED, FORM),
    ]


def raw(name: str, text: str) -> Hostile:
    return Hostile(name, text.encode(), INVALID)


CLASSIFY = [
    *unreadable("text", "a"),
    *misshapen("text", "a"),
    *texts(),
    *images(),
    asked("text and image", INVALID, text="a", image=encoded(PNG)),
    asked("top_k zero", INVALID, text="a", top_k=0),
    asked("top_k negative", INVALID, text="a", top_k=-1),
    asked("top_k as a fraction", INVALID, text="a", top_k=1.5),
    asked("top_k as text", INVALID, text="a", top_k="1"),
    raw("top_k not a number", '{"text": "a", "top_k": NaN}'),
    raw("top_k infinite", '{"text": "a", "top_k": 1e999}'),
]
TRANSLATE = [
    *unreadable("text", "a"),
    *misshapen("text", "a"),
    *texts(),
    asked("image to translate", INVALID, image=encoded(PNG)),
    asked("no beams", INVALID, text="a", num_beams=0),
    asked("very many beams", INVALID, text="a", num_beams=10**6),
    asked("no tokens", INVALID, text="a", max_new_tokens=0),
    asked("very many tokens", INVALID, text="a", max_new_tokens=10**9),
    asked("penalty out of range", INVALID, text="a", length_penalty=1e308),
    raw("penalty not a number", '{"text": "a", "length_penalty": NaN}'),
    raw("penalty infinite", '{"text": "a", "length_penalty": -Infinity}'),
    asked("language of one letter", INVALID, text="a", target="e"),
    asked("language as a number", INVALID, text="a", source=5),
    Hostile("raw image", PNG, UNSUPPORTED, "image/png"),
    Hostile("form", form(("text", b"a")), UNSUPPORTED, FORM),
]
DETECT = [
    *unreadable("image", encoded(PNG)),
    *misshapen("image", encoded(PNG)),
    *images(),
    asked("text to detect in", INVALID, text="a"),
    asked("threshold over one", INVALID, image=encoded(PNG), threshold=1.1),
    asked("threshold below zero", INVALID, image=encoded(PNG), threshold=-0.1),
    asked("threshold as text", INVALID, image=encoded(PNG), threshold="0.5"),
    raw("threshold not a number", f'{{"image": "{encoded(PNG)}", "threshold": NaN}}'),
    asked("iou over one", INVALID, image=encoded(PNG), iou=2),
    asked("no detections", INVALID, image=encoded(PNG), max_detections=0),
    asked("very many detections", INVALID, image=encoded(PNG), max_detections=10**9),
]
EMBED = [
    *unreadable("text", "a"),
    *misshapen("text", "a"),
    *texts(),
    *images(),
    asked("text well, image not", INVALID, text="a", image="!!!!"),
    asked("both empty", INVALID, text=[], image=[]),
    asked("too many together", LIMIT, text=["a"] * 5, image=[encoded(PNG)] * 4),
    asked("parameter of another task", INVALID, text="a", top_k=1),
]
TASKS = {"classify": CLASSIFY, "translate": TRANSLATE, "detect": DETECT, "embed": EMBED}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    api = build_api(ApiContext(FakeRegistry(), Lifecycle(), LIMITS))
    transport = httpx.ASGITransport(api)
    async with httpx.AsyncClient(transport=transport, base_url="http://quartet") as client:
        yield client


@pytest.mark.parametrize(
    ("task", "hostile"),
    [
        pytest.param(task, hostile, id=f"{task}: {hostile.name}")
        for task, table in TASKS.items()
        for hostile in table
    ],
)
async def test_hostile_input_gets_its_problem(
    client: httpx.AsyncClient, task: str, hostile: Hostile
) -> None:
    headers = hostile.headers | ({"content-type": hostile.content_type or ""})
    if hostile.content_type is None:
        del headers["content-type"]
    response = await client.post(
        f"/v1/{task}{hostile.query}", content=hostile.body, headers=headers
    )
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (response.status_code, problem["code"]) == hostile.expected
    assert problem["status"] == response.status_code
    assert problem["detail"]
    assert len(response.content) < 3000
    assert problem["request_id"] == response.headers["x-request-id"]


def test_every_task_is_sent_at_least_twenty_and_no_two_alike() -> None:
    for table in TASKS.values():
        names = [hostile.name for hostile in table]
        assert len(set(names)) == len(names) >= 20


@pytest.mark.parametrize(
    ("body", "indices"),
    [
        ({"text": ["a", "", "b", 7]}, [1, 3]),
        ({"text": ["a" * 101, "b"]}, [0]),
        ({"image": [encoded(PNG), "!!!!", encoded(SVG)]}, [1, 2]),
    ],
)
async def test_the_items_at_fault_are_named_and_the_others_answered(
    client: httpx.AsyncClient, body: dict[str, Any], indices: list[int]
) -> None:
    problem = (await client.post("/v1/embed", json=body)).json()
    assert [fault["index"] for fault in problem["errors"]] == indices
    assert [i for i, result in enumerate(problem["results"]) if result is None] == indices
