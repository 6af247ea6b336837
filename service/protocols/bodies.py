"""Bodies of protocol routes: JSON, a form or an image, whatever their Content-Type says."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

import orjson

from service.api.content import check_structure
from service.api.errors import MalformedRequestError
from service.api.forms import Values, collected, parse_form, parse_query
from service.api.http_request import HttpRequest
from service.errors import InvalidInputError
from service.requests.admission import ApiLimits

_MOST_FIELDS = 64
"""Fields of a form or parameters of a query, besides the items."""
_MOST_VALUES = 65_536
"""Values of a JSON body: clients send arrays of token ids, which get a refusal that says so."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_IMAGE = re.compile(rb"\x89PNG\r\n|\xff\xd8\xff|GIF8|RIFF....WEBP|BM|II\*\x00|MM\x00\*", re.DOTALL)
"""First bytes of the image files that are read."""
_BOUNDARY = re.compile(rb"--([0-9A-Za-z'()+_,./:=?-]{1,70})[ \t]*\r\n")
"""First line of a multipart body (RFC 2046, 5.1.1)."""


@dataclass(frozen=True, slots=True)
class Reading:
    """How the bodies of a protocol are read."""

    repeatable: frozenset[str] = frozenset()
    """Fields of a form that give a list."""
    with_query: bool = False
    """Whether parameters of the query stand for keys that the body does not have."""
    most_values: int = _MOST_VALUES
    """Values of a JSON body."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a client sent."""

    values: Mapping[str, Any] = field(default_factory=dict)
    """Members of the JSON object or fields of the form; an `image` of a form may be bytes."""
    image: bytes | None = None
    """The body itself, if it is an image."""


async def read_body(request: HttpRequest, reading: Reading) -> Body:
    """Read a body by what it looks like; its Content-Type may be missing or wrong.

    Raises:
        MalformedRequestError: it is not valid JSON, a form or an image.
        InvalidInputError: it is JSON, but not an object.
        LimitExceededError: it is too long, or has too many values.
        RequestTimeoutError: it did not arrive before the deadline.
    """
    body = (await request.read_body()).removeprefix(_BYTE_ORDER_MARK)
    content_type = request.given.get(b"content-type", b"")
    found = _parsed(body, content_type, reading, request.context.limits)
    if reading.with_query and (query := request.scope["query_string"]):
        return Body({**parse_query(query, _MOST_FIELDS), **found.values}, found.image)
    return found


def _parsed(body: bytes, content_type: bytes, reading: Reading, limits: ApiLimits) -> Body:
    first = body.lstrip(b" \t\r\n")[:1]
    if first in (b"{", b"["):
        return Body(parse_object(body, limits, reading.most_values))
    most = _MOST_FIELDS + limits.max_items
    if first == b"-" and (boundary := _BOUNDARY.match(body.lstrip(b"\r\n"))):
        if b"boundary=" not in content_type.lower():
            content_type = b'multipart/form-data; boundary="%b"' % boundary[1]
        return Body(parse_form(body, content_type, most, set(reading.repeatable)))
    if _IMAGE.match(body) or content_type.lower().startswith(b"image/"):
        return Body(image=body)
    if not first:
        return Body()
    if b"=" in body:
        return Body(_urlencoded(body, reading, most))
    raise MalformedRequestError("the body is not a JSON object, a form or an image")


def refuse_token_ids(values: Sequence[Any]) -> None:
    """Raise InvalidInputError for inputs that are token ids instead of texts."""
    if any(isinstance(one, int) for value in values for one in _members(value)):
        raise InvalidInputError(
            "the input is an array of token ids, and the tokens of the client are not those of "
            "this model: send the texts themselves (in langchain-openai, set "
            "check_embedding_ctx_length=False)"
        )


def _members(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list) else [value]


def parse_object(body: bytes, limits: ApiLimits, most_values: int) -> dict[str, Any]:
    """Return a JSON object. Raises MalformedRequestError, LimitExceededError."""
    check_structure(body, limits, most_values)
    try:
        values = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"the body is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise MalformedRequestError("the body must be a JSON object")
    return values


def _urlencoded(body: bytes, reading: Reading, most: int) -> Values:
    try:
        pairs = parse_qsl(
            body.decode().strip("\r\n"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=most,
        )
    except ValueError:  # UnicodeDecodeError is one
        raise MalformedRequestError("the form cannot be read") from None
    return collected(pairs, set(reading.repeatable))
