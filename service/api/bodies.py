"""JSON bodies: cheap checks on the raw bytes, then pydantic, then the refusals in plain words."""

import json
import logging
import re
from collections.abc import Collection, Iterable
from io import BytesIO
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import numpy as np
from pydantic import BaseModel, ValidationError
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header

from service.api.errors import MalformedRequestError
from service.errors import InvalidInputError, LimitExceededError
from service.requests.admission import ApiLimits

_IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": float("inf"), "UPLOAD_ERROR_ON_BAD_CTE": True}

Values = dict[str, Any]

_BRACKETS = re.compile(r"\[\d*\]$")

# It warns of every broken form; who sent it is told, and must not be able to fill the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def parse_form(body: bytes, content_type: bytes, max_parts: int, repeatable: set[str]) -> Values:
    """Return the fields of a multipart form: images as bytes, everything else as text.

    An image may also be a text (base64 or a data URI), so a part named `image` is bytes only if it
    is a file, has the media type of one, or is not ASCII. A file in any other field is read as
    text. A name in `repeatable` gives a list in the order of its parts, and may end in brackets
    (`image[]`), as some clients write a list.

    Raises:
        MalformedRequestError: no well-formed form, or a field given twice.
        LimitExceededError: more than `max_parts` parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedRequestError("the multipart content type names no boundary")
    parts = _Parts(max_parts, repeatable)
    parser = None
    try:
        parser = FormParser(
            "multipart/form-data", parts.add, parts.add, parts.end, boundary, config=_IN_MEMORY
        )
        parser.write(_without_preamble(body, b"--" + boundary))
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequestError(f"the form cannot be read: {error}") from None
    finally:
        if parser is not None:
            parser.parser = None  # its callbacks refer to `parser`, which holds the files
    if not parts.complete:
        raise MalformedRequestError("the form has no end: its last boundary is missing")
    return collected(parts.found, repeatable)


def parse_query(query: bytes, max_parameters: int) -> Values:
    """Return the parameters of a query. Raises MalformedRequestError."""
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=max_parameters,
        )
    except ValueError:  # UnicodeDecodeError is one
        raise MalformedRequestError("the query cannot be read") from None
    return collected(pairs, set())


def collected(pairs: Iterable[tuple[str, str | bytes]], repeatable: set[str]) -> Values:
    """Return pairs as a mapping. Raises MalformedRequestError for a name given twice."""
    values: Values = {}
    for name, value in pairs:
        if name in repeatable:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise MalformedRequestError(f"{name[:40]!r} is given twice")
        else:
            values[name] = value
    return values


class _Parts:
    """What a form's parser has found so far."""

    def __init__(self, most: int, repeatable: Collection[str]) -> None:
        self.found: list[tuple[str, str | bytes]] = []
        self.complete = False
        self._most, self._repeatable = most, repeatable

    def add(self, part: Field | File) -> None:
        if len(self.found) >= self._most:
            raise LimitExceededError(f"the form has more than {self._most} parts")
        try:
            name = (part.field_name or b"").decode()
            listed = _BRACKETS.sub("", name)
            name = listed if listed in self._repeatable else name
            data = _data(part)
            is_image = name == "image" and _is_binary(part, data)
            self.found.append((name, data if is_image else data.decode()))
        except UnicodeDecodeError:
            raise MalformedRequestError("a form field is not UTF-8") from None

    def end(self) -> None:
        self.complete = True


def _without_preamble(body: bytes, delimiter: bytes) -> bytes:
    """Return a multipart body from its first delimiter on (RFC 2046, 5.1.1)."""
    if body.startswith(delimiter):
        return body
    at = body.find(b"\r\n" + delimiter)
    return body if at < 0 else body[at + 2 :]


def _is_binary(part: Field | File, data: bytes) -> bool:
    """Tell whether an image was sent as a file and not as base64 or a data URI."""
    media_type = (part.content_type or "").partition(";")[0].strip().lower()
    is_file = isinstance(part, File) or media_type.startswith("image/")
    return is_file or media_type == "application/octet-stream" or not data.isascii()


def _data(part: Field | File) -> bytes:
    if isinstance(part, Field):
        return part.value or b""
    stored = part.file_object
    stored.seek(0)
    return stored.getvalue() if isinstance(stored, BytesIO) else stored.read()


ModelT = TypeVar("ModelT", bound=BaseModel)

_QUOTE, _COMMA = b'",'
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{},"'))
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1
_LONGEST_ECHO = 40
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def parse_json(body: bytes, model: type[ModelT], limits: ApiLimits) -> ModelT:
    """Return the body as `model`, with nothing converted, ignored or guessed.

    Raises:
        MalformedRequestError: no JSON, nested too deep, not UTF-8, or a key given twice.
        LimitExceededError: more values than any valid request has.
        InvalidInputError: JSON, but not of this shape.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    check_structure(body, limits)
    try:
        parsed = model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise refusal(error, model) from None
    # Each key has its colon: only where there are more colons than keys may one be given twice.
    if body.count(b":") != len(parsed.model_fields_set):
        _refuse_duplicates(body)
    return parsed


def check_structure(body: bytes, limits: ApiLimits) -> None:
    """Bound depth and number of values before a parser allocates anything for them.

    Raises:
        MalformedRequestError: nested deeper than the limit.
        LimitExceededError: more values than the limit.
    """
    opened = body.count(b"[") + body.count(b"{")
    if opened <= limits.max_json_depth and body.count(b",") <= limits.max_json_values:
        return
    # Some of these may stand in strings. Without escapes, every quote begins or ends a string.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_STRUCTURE)
    marks = np.frombuffer(bare, np.uint8)
    outside = marks[~np.logical_xor.accumulate(marks == _QUOTE)] if marks.size else marks
    depths = np.cumsum(_STEPS[outside], dtype=np.int32)
    if depths.size and depths.max() > limits.max_json_depth:
        raise MalformedRequestError(f"the JSON is nested deeper than {limits.max_json_depth}")
    values = np.count_nonzero(outside == _COMMA) + np.count_nonzero(_STEPS[outside] > 0)
    if values > limits.max_json_values:
        raise LimitExceededError(f"the JSON holds more than {limits.max_json_values} values")


def refusal(error: ValidationError, model: type[BaseModel]) -> InvalidInputError:
    """Return what to tell the client about the first thing that is wrong."""
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])[:_LONGEST_ECHO]
    match first["type"]:
        case "json_invalid":
            return MalformedRequestError(first["msg"])
        case "model_type" | "dict_type":
            return InvalidInputError("the body must be a JSON object")
        case "extra_forbidden":
            return InvalidInputError(_unknown_key(where, model.model_fields))
        case _:
            return InvalidInputError(f"{where}: {first['msg']}" if where else first["msg"])


def _unknown_key(key: str, known: Collection[str]) -> str:
    return f"unknown key {key!r}; known are {', '.join(known)}"


def _refuse_duplicates(body: bytes) -> None:
    try:
        _DECODER.decode(body.decode())
    except ValueError as error:
        raise MalformedRequestError(str(error)) from None


def _without_duplicates(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key[:_LONGEST_ECHO]!r} is given twice")
        found[key] = value
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates)
