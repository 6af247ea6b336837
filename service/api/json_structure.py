"""Limits of a JSON body that holds more than most: its depth, its values and its keys."""

import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from service.api.errors import MalformedRequestError
from service.errors import LimitExceededError
from service.requests.admission import ApiLimits

_QUOTE, _COMMA = b'",'
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{},"'))
_STEPS = np.zeros(256, np.int8)
_STEPS[list(b"[{")] = 1
_STEPS[list(b"]}")] = -1
_LONGEST_ECHO = 40


def check_marks(body: bytes, limits: ApiLimits, most_values: int | None = None) -> None:
    """Check the depth and the number of values by the marks outside of strings.

    Args:
        body: JSON, not parsed yet.
        limits: bounds the depth, and the number of values unless `most_values` does.
        most_values: the largest number of values.

    Raises:
        MalformedRequestError: the JSON is nested deeper than the limit.
        LimitExceededError: it has more values than the limit.
    """
    # Some may be inside strings. Without escapes, every quote begins or ends a string.
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _NO_STRUCTURE)
    # No valid body has more marks than this: every character of its texts, and its structure. The
    # first ones decide; a megabyte of brackets would keep the event loop for a tenth of a second.
    most = max(limits.max_items * limits.max_characters, limits.max_document_characters)
    most_values = limits.max_json_values if most_values is None else most_values
    most += 4 * most_values
    marks = np.frombuffer(bare[:most], np.uint8)
    outside = marks[~np.logical_xor.accumulate(marks == _QUOTE)] if marks.size else marks
    depths = np.cumsum(_STEPS[outside], dtype=np.int32)
    if depths.size and depths.max() > limits.max_json_depth:
        raise MalformedRequestError(f"the JSON is nested deeper than {limits.max_json_depth}")
    values = np.count_nonzero(outside == _COMMA) + np.count_nonzero(_STEPS[outside] > 0)
    if values > most_values:
        raise LimitExceededError(f"the JSON holds more than {most_values} values")
    if len(bare) > most:
        raise LimitExceededError(f"the JSON holds more than {most} brackets, commas and quotes")


def refuse_duplicates(body: bytes) -> None:
    """Raise MalformedRequestError if an object has a key twice."""
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
