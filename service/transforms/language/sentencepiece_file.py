"""The pieces in a SentencePiece model file, read by its published protobuf layout."""

import struct
from dataclasses import dataclass
from pathlib import Path

from service.transforms.protobuf import numbers, parts

# Field numbers of sentencepiece_model.proto.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _TYPE = 1, 3
_SCORE_TAG = 2 << 3 | 5
_MODEL_TYPE, _UNKNOWN_ID = 3, 40
_CHARSMAP = 2

_UNIGRAM = 1
_CONTROL, _USER_DEFINED = 3, 4


@dataclass(frozen=True, slots=True)
class PieceModel:
    """What a SentencePiece model holds."""

    scores: list[tuple[str, float]]
    """Every piece with its log probability, by id."""
    symbols: list[tuple[str, bool]]
    """Pieces that are never split, and whether each stands for no text at all."""
    unknown_id: int
    is_unigram: bool
    charsmap: bytes
    """How characters are normalised, as `tokenizers` takes it; empty if they are not."""


def read_pieces(path: Path) -> PieceModel:
    """Read a SentencePiece model.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is no SentencePiece model.
    """
    data = path.read_bytes()
    scores: list[tuple[str, float]] = []
    symbols: list[tuple[str, bool]] = []
    charsmap, settings = b"", {}
    for number, start, end in parts(data, 0, len(data)):
        if number == _PIECES:
            text, score, kind = _piece(data, start, end)
            scores.append((text, score))
            if kind in (_CONTROL, _USER_DEFINED):
                symbols.append((text, kind == _CONTROL))
        elif number == _TRAINER:
            settings = dict(numbers(data, start, end))
        elif number == _NORMALIZER:
            charsmap = _charsmap(data, start, end)
    if not scores:
        raise ValueError(f"{path.name} is no SentencePiece model")
    kind = settings.get(_MODEL_TYPE, _UNIGRAM)
    return PieceModel(scores, symbols, settings.get(_UNKNOWN_ID, 0), kind == _UNIGRAM, charsmap)


def _charsmap(data: bytes, start: int, end: int) -> bytes:
    fields = {field: data[at:to] for field, at, to in parts(data, start, end)}
    return fields.get(_CHARSMAP, b"")


def _piece(data: bytes, start: int, end: int) -> tuple[str, float, int]:
    text = ""
    after = start
    for field, at, to in parts(data, start, end):
        if field == _TEXT:
            text, after = data[at:to].decode("utf-8"), to
    # The score follows the text: every writer keeps the fields in their order.
    has_score = after < end and data[after] == _SCORE_TAG
    score = struct.unpack_from("<f", data, after + 1)[0] if has_score else 0.0
    kind = dict(numbers(data, start, end)).get(_TYPE, 1)
    return text, score, kind
