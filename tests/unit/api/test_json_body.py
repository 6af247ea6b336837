import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from service.api.content import check_structure, parse_json
from service.api.errors import MalformedRequestError
from service.errors import InvalidInputError, LimitExceededError
from service.requests.admission import ApiLimits
from tests.sentences import sentence

LIMITS = ApiLimits(max_json_depth=4, max_items=2)
MOST = LIMITS.max_json_values


class Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")

    text: Any = None
    count: int = 0


def parse(body: bytes) -> Shape:
    return parse_json(body, Shape, LIMITS)


def test_a_body_becomes_the_model() -> None:
    assert parse(b'{"text": "a: b", "count": 2}') == Shape(text="a: b", count=2)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="cut short"),
        pytest.param(b'{"text": "\xff"}', id="not UTF-8"),
        pytest.param(b'\xef\xbb\xbf\xef\xbb\xbf{"text": "a"}', id="two byte order marks"),
        pytest.param(b'{"text": "\\ud800"}', id="lone surrogate"),
        pytest.param(b'{"text": "a\nb"}', id="raw control character"),
        pytest.param(b"{'text': 'a'}", id="single quotes"),
        pytest.param(b'{"text": "a"} {}', id="two documents"),
        pytest.param(b'{"text": [[[["a"]]]]}', id="too deep"),
        pytest.param(b"[" * 100_000, id="100,000 brackets"),
        pytest.param(b'{"a":' * 100_000, id="100,000 objects"),
        pytest.param(b'{"text": "a", "text": "b"}', id="key twice"),
        pytest.param(b'{"text": "a", "te\\u0078t": "b"}', id="key twice, once escaped"),
        pytest.param(b'{"count": NaN, "count": 1}', id="key twice, first not a number"),
    ],
)
def test_what_cannot_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequestError):
        parse(body)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "the body must be a JSON object"),
        (b"null", "the body must be a JSON object"),
        (b'{"txt": "a"}', "unknown key 'txt'; known are text, count"),
        (b'{"count": "1"}', "count: Input should be a valid integer"),
        (b'{"count": true}', "count: Input should be a valid integer"),
        (b'{"count": 1.5}', "count: Input should be a valid integer"),
        (b'{"count": NaN}', "count: Input should be a valid integer"),
    ],
)
def test_another_shape_is_refused_in_plain_words(body: bytes, message: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse(body)
    assert type(caught.value) is InvalidInputError
    assert str(caught.value) == message


def test_a_key_of_any_length_is_echoed_shortly() -> None:
    with pytest.raises(InvalidInputError) as caught:
        parse(b'{"%s": 1}' % (b"k" * 10_000))
    assert len(str(caught.value)) < 100


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"text": [%s]}' % b",".join([b"0"] * (MOST + 2)), id="numbers"),
        pytest.param(b'{"text": [%s]}' % b",".join([b'""'] * (MOST + 2)), id="empty strings"),
        pytest.param(b'{"text": [%s]}' % b",".join([b"[]"] * MOST), id="empty lists"),
    ],
)
def test_more_values_than_any_request_has_are_refused(body: bytes) -> None:
    with pytest.raises(LimitExceededError):
        parse(body)


def test_brackets_commas_and_quotes_within_a_text_are_text() -> None:
    text = '[[[[{{{{,,,,\\"' * 100 + "\\"
    assert parse(json.dumps({"text": text}).encode()).text == text


def depth(value: Any) -> int:
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    return 0


texts = st.text(alphabet='[]{},"\\a:é\n', max_size=12)
documents = st.recursive(
    texts | st.none() | st.integers(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=12,
)


@given(documents, st.integers(0, 5))
def test_the_depth_is_counted_as_a_parser_would(document: Any, most: int) -> None:
    limits = ApiLimits(max_json_depth=most, max_items=1000)
    body = json.dumps(document, ensure_ascii=False).encode()
    if depth(document) > most:
        with pytest.raises(MalformedRequestError):
            check_structure(body, limits)
    else:
        check_structure(body, limits)


def test_only_as_many_marks_are_looked_at_as_a_valid_body_can_have() -> None:
    limits = ApiLimits(max_items=2, max_characters=100, max_document_characters=300)
    most = 300 + 4 * limits.max_json_values
    check_structure(b'{"text":"%b"}' % (b"[" * 300), limits)
    with pytest.raises(LimitExceededError, check=sentence):
        check_structure(b'{"text":"%b"}' % (b"[" * most), limits)
    with pytest.raises(MalformedRequestError):  # the first marks decide, whatever follows
        check_structure(b"[" * 1000 + b"]" * 100_000, limits)


@given(st.binary(max_size=64))
def test_bytes_that_are_no_json_never_surprise_the_scan(body: bytes) -> None:
    with contextlib.suppress(MalformedRequestError, LimitExceededError):
        check_structure(body, ApiLimits(max_json_depth=1, max_items=0))
