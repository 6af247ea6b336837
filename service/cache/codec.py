"""Answers as bytes and back, exactly: what is decoded equals what was encoded.

Raise `SCHEMA` when an encoding here changes.
"""

import hashlib
import hmac
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from service.tasks import (
    Alternative,
    Classification,
    DetectedObject,
    Detections,
    Embedding,
    FinishReason,
    Generation,
    Inference,
    KeptTerm,
    Label,
    Mask,
    TaggedSpan,
    Tagging,
    Task,
    Translation,
)

SCHEMA = 6
"""Version of the stored encoding; part of every key and envelope."""

MAX_SECRET = hashlib.blake2b.MAX_KEY_SIZE
_MAGIC = b"QRTT"
_CHECKSUM_SIZE = 16
_PREFIX = _MAGIC + struct.pack("<B", SCHEMA)
_HEADER_SIZE = len(_PREFIX) + _CHECKSUM_SIZE


def seal(key: str, payload: bytes, secret: bytes = b"") -> bytes:
    """Return the payload in an envelope that opens under this key and secret only."""
    return _PREFIX + _checksum(key, payload, secret) + payload


def unseal(key: str, sealed: bytes, secret: bytes = b"") -> bytes | None:
    """Return the payload, or None if this is not a whole envelope made for this key."""
    if len(sealed) < _HEADER_SIZE or not sealed.startswith(_PREFIX):
        return None
    payload = sealed[_HEADER_SIZE:]
    checksum = sealed[len(_PREFIX) : _HEADER_SIZE]
    return payload if hmac.compare_digest(checksum, _checksum(key, payload, secret)) else None


def _checksum(key: str, payload: bytes, secret: bytes) -> bytes:
    named = key.encode()
    hashed = hashlib.blake2b(digest_size=_CHECKSUM_SIZE, key=secret)
    hashed.update(_PREFIX + struct.pack("<I", len(named)) + named)
    hashed.update(payload)
    return hashed.digest()


_FLOAT32, _INT32 = np.dtype("<f4"), np.dtype("<i4")
_EMBEDDING = struct.Struct("<B?II")
"""Axes, whether it is sparse, rows and columns."""
_LENGTH_SIZE = 4
_OBJECT = 6
"""Values of an object without a mask, keypoints or a rotated box."""
_STRINGS = "strings"
"""Stands for the type of a tensor of strings."""


@dataclass(frozen=True, slots=True)
class Codec:
    """How the answers of one task are stored."""

    encode: Callable[[Any], bytes]
    """Raises TypeError or ValueError on an answer that cannot be stored exactly."""
    decode: Callable[[bytes], Any]
    """Raises TypeError or ValueError on bytes that `encode` did not make."""


def _encode_classification(answer: Classification) -> bytes:
    rows = [(label.name, float(label.score)) for label in answer.labels]
    if not all(map(math.isfinite, [score for _, score in rows])):  # quicker than one by one
        raise ValueError("an answer with a score that is not finite is not stored")
    return orjson.dumps(rows)


def _decode_classification(data: bytes) -> Classification:
    return Classification(tuple(Label(*_typed(row, str, float)) for row in orjson.loads(data)))


def _encode_tagging(answer: Tagging) -> bytes:
    rows = [
        (span.label, _finite(span.score), span.start, span.end, span.text) for span in answer.spans
    ]
    return orjson.dumps((answer.windows, rows))


def _decode_tagging(data: bytes) -> Tagging:
    windows, rows = _typed(orjson.loads(data), int, list)
    spans = (TaggedSpan(*_typed(row, str, float, int, int, str)) for row in rows)
    return Tagging(tuple(spans), windows)


def _encode_alternatives(alternatives: Sequence[Alternative]) -> Sequence[Any]:
    return [
        (one.text, None if one.score is None else _finite(one.score), one.finish_reason)
        for one in alternatives
    ]


def _encode_generation(answer: Generation) -> bytes:
    alternatives = _encode_alternatives(answer.alternatives)
    return orjson.dumps((answer.text, answer.truncated, answer.finish_reason, alternatives))


def _decode_generation(data: bytes) -> Generation:
    text, truncated, reason, rows = _typed(orjson.loads(data), str, bool, str, list)
    alternatives = tuple(map(_decode_alternative, rows))
    return Generation(text, truncated, FinishReason(reason), alternatives)


def _encode_translation(answer: Translation) -> bytes:
    alternatives = _encode_alternatives(answer.alternatives)
    head = (answer.text, answer.source, answer.target, answer.truncated, answer.finish_reason)
    terms = [(term.source, term.target, term.is_kept) for term in answer.glossary]
    return orjson.dumps((*head, alternatives, terms))


def _decode_translation(data: bytes) -> Translation:
    text, source, target, truncated, reason, rows, terms = _typed(
        orjson.loads(data), str, str, str, bool, str, list, list
    )
    return Translation(
        text,
        source,
        target,
        truncated,
        FinishReason(reason),
        tuple(map(_decode_alternative, rows)),
        tuple(KeptTerm(*_typed(term, str, str, bool)) for term in terms),
    )


def _decode_alternative(row: Any) -> Alternative:
    scored = isinstance(row, list) and len(row) > 1 and row[1] is not None
    text, score, reason = _typed(row, str, float if scored else type(None), str)
    return Alternative(text, score, FinishReason(reason))


def _encode_detections(answer: Detections) -> bytes:
    rows = [
        (one.label, _finite(one.score), *map(_finite, one.box), *_further(one))
        for one in answer.objects
    ]
    return orjson.dumps((answer.width, answer.height, rows))


def _further(one: DetectedObject) -> Sequence[Any]:
    """Return what an object has besides its box; nothing for most models."""
    mask, points, rotated = one.mask, one.keypoints, one.rotated_box
    if mask is None and points is None and rotated is None:
        return ()
    written = None if mask is None else (mask.rle, mask.polygons, mask.png)
    return (
        written,
        None if points is None else [list(map(_finite, point)) for point in points],
        None if rotated is None else list(map(_finite, rotated)),
    )


def _decode_detections(data: bytes) -> Detections:
    width, height, rows = _typed(orjson.loads(data), int, int, list)
    return Detections(tuple(map(_decode_object, rows)), width, height)


def _decode_object(row: Any) -> DetectedObject:
    label, score, *box = _typed(row[:_OBJECT], str, float, float, float, float, float)
    found = DetectedObject(label, score, (box[0], box[1], box[2], box[3]))
    if len(row) == _OBJECT:
        return found
    mask, points, rotated = row[_OBJECT:]
    return replace(
        found,
        mask=None if mask is None else _decode_mask(*mask),
        keypoints=None if points is None else tuple(map(tuple, points)),
        rotated_box=None if rotated is None else tuple(_typed(rotated, *[float] * 5)),
    )


def _decode_mask(rle: str | None, rings: Any, png: str | None) -> Mask:
    polygons = None if rings is None else tuple(tuple(map(tuple, ring)) for ring in rings)
    return Mask(rle, polygons, png)


def _encode_embedding(answer: Embedding) -> bytes:
    vector, indices = answer.vector, answer.indices
    if vector.ndim not in (1, 2) or vector.dtype != np.float32:
        raise ValueError(f"an embedding is float32 vectors, not {vector.dtype}{vector.shape}")
    if indices is not None and (indices.shape != vector.shape or indices.dtype != np.int32):
        raise ValueError("a sparse embedding has an int32 index for each number")
    rows = 1 if vector.ndim == 1 else len(vector)
    head = _EMBEDDING.pack(vector.ndim, indices is not None, rows, vector.shape[-1])
    places = b"" if indices is None else indices.astype(_INT32).tobytes()
    return head + vector.astype(_FLOAT32).tobytes() + places


def _decode_embedding(data: bytes) -> Embedding:
    if len(data) < _EMBEDDING.size:
        raise ValueError("a stored embedding is not whole")
    axes, is_sparse, rows, columns = _EMBEDDING.unpack_from(data)
    count, end = rows * columns, _EMBEDDING.size + rows * columns * _FLOAT32.itemsize
    if axes not in (1, 2) or len(data) != end + is_sparse * count * _INT32.itemsize:
        raise ValueError("a stored embedding is not as long as it says")
    vector = np.frombuffer(data, _FLOAT32, count, _EMBEDDING.size).astype(np.float32, copy=False)
    indices = np.frombuffer(data, _INT32, count, end).astype(np.int32) if is_sparse else None
    return Embedding(vector if axes == 1 else vector.reshape(rows, columns), indices)


def _encode_inference(answer: Inference) -> bytes:
    layout: list[tuple[str, str, tuple[int, ...], list[int]]] = []
    chunks: list[bytes] = []
    for name, tensor in answer.outputs.items():
        is_text = tensor.dtype.hasobject
        parts = tensor.ravel().tolist() if is_text else [tensor.tobytes()]
        dtype = _STRINGS if is_text else tensor.dtype.str
        layout.append((name, dtype, tensor.shape, [len(part) for part in parts]))
        chunks += parts
    head = orjson.dumps(layout)
    return b"".join((len(head).to_bytes(_LENGTH_SIZE, "little"), head, *chunks))


def _decode_inference(data: bytes) -> Inference:
    at = _LENGTH_SIZE + int.from_bytes(data[:_LENGTH_SIZE], "little")
    outputs = {}
    for row in orjson.loads(data[_LENGTH_SIZE:at]):
        name, dtype, shape, lengths = _typed(row, str, str, list, list)
        if not all(type(size) is int and size >= 0 for size in (*shape, *lengths)):
            raise ValueError("a stored tensor has a size that is none")
        ends = [*accumulate(lengths, initial=at)]
        parts = [data[begin:end] for begin, end in pairwise(ends)]
        at = ends[-1]
        outputs[name] = _tensor(parts, dtype, shape)
    if at != len(data):
        raise ValueError("stored tensors are not as long as they say")
    return Inference(outputs)


def _tensor(parts: Sequence[bytes], dtype: str, shape: Sequence[int]) -> NDArray[Any]:
    if dtype == _STRINGS:
        tensor = np.array(parts, object)
    else:
        (part,) = parts
        tensor = np.frombuffer(part, dtype)
    if math.prod(shape) != tensor.size:
        raise ValueError("a stored tensor has another size than its shape")
    return tensor.reshape(shape)


CODECS: Mapping[Task, Codec] = {
    Task.CLASSIFY: Codec(_encode_classification, _decode_classification),
    Task.TAG: Codec(_encode_tagging, _decode_tagging),
    Task.TRANSLATE: Codec(_encode_translation, _decode_translation),
    Task.GENERATE: Codec(_encode_generation, _decode_generation),
    Task.DETECT: Codec(_encode_detections, _decode_detections),
    Task.EMBED: Codec(_encode_embedding, _decode_embedding),
    Task.SPARSE: Codec(_encode_embedding, _decode_embedding),
    Task.INFER: Codec(_encode_inference, _decode_inference),
}


def _finite(number: float) -> float:
    """Return it as a plain float. JSON has no NaN and no infinity; neither is an answer."""
    if not math.isfinite(number):
        raise ValueError(f"an answer that says {number} is not stored")
    return float(number)


def _typed(row: Any, *types: type) -> Any:
    """Return a row whose values are of exactly these types."""
    if not isinstance(row, list) or tuple(map(type, row)) != types:
        raise ValueError("a stored answer has not the shape of its task")
    return row
