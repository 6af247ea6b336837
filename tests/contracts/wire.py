"""What crosses the engine seam, as bytes: proof that an engine could run in another process.

A message is the length of a JSON header, the header, and the raw memory of its arrays. Errors
cross by code and fields, and deadlines as the seconds that are left, because two processes share
neither exception objects nor clocks.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from service.engine.engine import ItemResult
from service.errors import ServiceError, error_from, fields_of
from service.types import PreparedItem, Share, Tensors

_LENGTH_BYTES = 4


@dataclass(frozen=True, slots=True)
class Submission:
    """The arguments of `Engine.submit`."""

    prepared: PreparedItem
    seconds_left: float | None
    """Until the deadline; None without one."""
    priority: int
    is_watched: bool
    share: Share | None = None


@dataclass(frozen=True, slots=True)
class PartialResult:
    """One call of `watch`."""

    tensors: Tensors


Reply: TypeAlias = ItemResult | PartialResult | ServiceError


def encode_submission(submission: Submission) -> bytes:
    """Return a submission as bytes. Raises TypeError for an array of Python objects."""
    prepared = submission.prepared
    header = {
        "lane": prepared.lane,
        "length": prepared.length,
        "group": prepared.group,
        "seconds_left": submission.seconds_left,
        "priority": submission.priority,
        "is_watched": submission.is_watched,
        "share": None if submission.share is None else asdict(submission.share),
    }
    return _encode(header, prepared.tensors)


def decode_submission(message: bytes) -> Submission:
    """Return the submission that `encode_submission` encoded."""
    header, tensors = _decode(message)
    group = header["group"]
    prepared = PreparedItem(
        tensors, header["lane"], header["length"], None if group is None else tuple(group)
    )
    share = None if header["share"] is None else Share(**header["share"])
    return Submission(
        prepared, header["seconds_left"], header["priority"], header["is_watched"], share
    )


def encode_reply(reply: Reply) -> bytes:
    """Return a reply as bytes. Raises TypeError for an array of Python objects."""
    match reply:
        case PartialResult(tensors):
            return _encode({"kind": "partial"}, tensors)
        case ServiceError():
            return _encode({"kind": "error", **fields_of(reply)}, {})
        case ItemResult():
            return _encode({"kind": "result", "rest": reply[1:]}, reply.result)


def decode_reply(message: bytes) -> Reply:
    """Return the reply that `encode_reply` encoded."""
    header, tensors = _decode(message)
    match header.pop("kind"):
        case "partial":
            return PartialResult(tensors)
        case "error":
            return error_from(header)
        case _:
            return ItemResult(tensors, *header["rest"])


def _encode(header: Mapping[str, Any], tensors: Tensors) -> bytes:
    arrays = {name: np.asarray(tensor) for name, tensor in tensors.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{name} holds Python objects, which cannot be sent as bytes")
    layout = [(name, array.dtype.str, array.shape) for name, array in arrays.items()]
    head = json.dumps({**header, "tensors": layout}).encode()
    buffers = (array.tobytes() for array in arrays.values())
    return b"".join((len(head).to_bytes(_LENGTH_BYTES, "little"), head, *buffers))


def _decode(message: bytes) -> tuple[dict[str, Any], Tensors]:
    begin = _LENGTH_BYTES + int.from_bytes(message[:_LENGTH_BYTES], "little")
    header = json.loads(message[_LENGTH_BYTES:begin])
    tensors = {}
    for name, dtype, shape in header.pop("tensors"):
        array = np.ndarray(tuple(shape), dtype, message, begin)
        tensors[name] = array
        begin += array.nbytes
    return header, tensors
