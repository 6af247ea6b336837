"""JSON bodies: cheap checks on the raw bytes, then pydantic, then the refusals in plain words."""

import json
from collections.abc import Collection, Iterable
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ValidationError

from service.api.errors import MalformedRequestError
from service.api.limits import ApiLimits
from service.errors import InvalidInputError, LimitExceededError

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
