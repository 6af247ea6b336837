"""From a text to token ids and back, by a Hugging Face tokenizer."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from service.errors import InvalidInputError, ModelLoadError, is_panic
from service.transforms.language.tokenizer_files import tokenizer_of

# The library would start a thread per core of its own; ours are counted and already busy.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TokenIds: TypeAlias = NDArray[np.int64]

_SHORT_TEXTS = ("a", "A", "1", ".", "一")
"""Of which a vocabulary has one, whatever it is for."""

_MOST_LENGTHS = 8192
"""Texts whose number of tokens is kept."""

_SAMPLED = 251
"""Ordinary tokens in the texts of warm-up."""


@dataclass(frozen=True, slots=True)
class Token:
    """A token of a text."""

    id: int
    text: str
    """Its characters in the text; of a special token its name."""
    is_special: bool
    start: int | None
    """Index of its first character in the text; None of a special token."""
    stop: int | None
    """Index after its last character; None of a special token."""


class TextTokenizer:
    """Turns texts into int64 token ids, the same whenever asked. Any thread may use it."""

    def __init__(self, tokenizer: Tokenizer, cuts_the_end: bool = True) -> None:
        tokenizer.no_truncation()  # what its file says of these two was for somebody's training
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._special_tokens: int = tokenizer.num_special_tokens_to_add(False)
        self._pair_tokens: int = tokenizer.num_special_tokens_to_add(True)
        ids = np.fromiter(tokenizer.get_vocab().values(), np.int64)
        self._largest_id = int(ids.max(initial=0))
        self._frame = _Frame.of(tokenizer)
        self._has_types = self._frame.has_types
        known = [*tokenizer.get_added_tokens_decoder(), *self._frame.ids]
        self._ordinary = _spread(np.setdiff1d(ids, known) if len(ids) > len(known) else ids)
        self._lengths: dict[int, int] = {}
        """Tokens of the last texts, by hash: usage is counted after a text was encoded."""
        self.cuts_the_end = cuts_the_end
        """Whether a text that is too long loses its end, or else its beginning."""
        self._direction = "right" if cuts_the_end else "left"

    @classmethod
    def open(
        cls, path: Path, kind: str = "", *, cuts_the_end: bool = True, lowercases: bool = False
    ) -> "TextTokenizer":
        """Read a tokenizer.

        Args:
            path: tokenizer.json, or one of the older files that `tokenizer_of` reads.
            kind: transformers' class of it, which the older files do not tell.
            cuts_the_end: whether a text that is too long loses its end, or else its beginning.
            lowercases: whether texts are lowercased before all else.

        Raises:
            ModelLoadError: the file is missing, or is not a tokenizer.
        """
        try:
            return cls(tokenizer_of(path, kind, lowercases=lowercases), cuts_the_end)
        except BaseException as error:  # `tokenizers` raises no other where files do not fit
            if not (isinstance(error, Exception) or is_panic(error)):
                raise
            raise ModelLoadError(
                f"{path.name} is no tokenizer that can be read: {error}"
            ) from error

    @property
    def backend(self) -> Tokenizer:
        """Return the library's tokenizer. It must not be changed."""
        return self._tokenizer

    @property
    def special_tokens(self) -> int:
        """Return how many tokens are added around every text."""
        return self._special_tokens

    def length(self, text: str, pair: str | None = None) -> int:
        """Return how many tokens a text, or a pair of texts in one row, has.

        Special tokens are included, and nothing is cut.
        """
        if (known := self._lengths.get(hash((text, pair)))) is not None:
            return known
        valid = valid_text(text)
        whole = valid if pair is None else (valid, valid_text(pair))
        return self._note_length(text, pair, len(self._tokenizer.encode_batch_fast([whole])[0]))

    def _note_length(self, text: str, pair: str | None, length: int) -> int:
        if len(self._lengths) >= _MOST_LENGTHS:
            self._lengths.clear()
        self._lengths[hash((text, pair))] = length
        return length

    def tokens(self, text: str, with_special: bool = True) -> list[Token]:
        """Return the tokens of a whole text. Holds the interpreter's lock while it runs."""
        valid = valid_text(text)
        encoding = self._tokenizer.encode(valid, add_special_tokens=with_special)
        found = zip(
            encoding.ids,
            encoding.tokens,
            encoding.special_tokens_mask,
            encoding.offsets,
            strict=True,
        )
        return [
            Token(number, name, True, None, None)
            if special
            else Token(number, valid[start:stop], False, start, stop)
            for number, name, special, (start, stop) in found
        ]

    def encode(self, text: str, max_length: int) -> tuple[TokenIds, bool]:
        """Tokenize a text, special tokens included.

        A text that is too long is cut, but never its special tokens. Lone surrogates, which
        are no Unicode text, count as U+FFFD.

        Returns:
            int64 [T] with T at most `max_length`, and whether the text was cut.

        Raises:
            InvalidInputError: the text is empty, blank, or has nothing the model could read.
        """
        # `encode` would hold the interpreter's lock (0.2 s for a long text); the batch method
        # releases it and, by not computing offsets, is faster even for one short text.
        (encoding,) = guarded(self._tokenizer.encode_batch_fast, [valid_text(text)])
        if not text or text.isspace():
            raise InvalidInputError("the text is empty")
        if len(encoding) <= self._special_tokens:
            raise InvalidInputError("the text has nothing that this model reads")
        self._note_length(text, None, len(encoding))
        cut = len(encoding) > max_length
        if cut:  # once more, for the special tokens of a text that is too long are at its end
            valid = [valid_text(text)]
            bare = self._tokenizer.encode_batch_fast(valid, add_special_tokens=False)[0]
            bare.truncate(max_length - self._special_tokens, direction=self._direction)
            encoding = guarded(self._tokenizer.post_process, bare)
        return np.array(encoding.ids, np.int64), cut

    def encode_pair(self, text: str, pair: str, max_length: int) -> tuple[TokenIds, TokenIds]:
        """Tokenize two texts into one row, special tokens included.

        If they are too long together, the longer is cut until they are of one length, then both.

        Returns:
            ids and types (which of the two texts a token is of), both int64 [T] with T at most
            `max_length`.

        Raises:
            InvalidInputError: one of them is empty, blank, or has nothing the model could read.
        """
        if any(not part or part.isspace() for part in (text, pair)):
            raise InvalidInputError("the text is empty")
        texts = [valid_text(text), valid_text(pair)]
        first, second = guarded(self._tokenizer.encode_batch_fast, texts, add_special_tokens=False)
        if not (len(first) and len(second)):
            raise InvalidInputError("the text has nothing that this model reads")
        self._note_length(text, pair, len(first) + len(second) + self._pair_tokens)
        shares = _shares(len(first), len(second), max_length - self._pair_tokens)
        for encoding, share in zip((first, second), shares, strict=True):
            encoding.truncate(share, direction=self._direction)
        both = guarded(self._tokenizer.post_process, first, second)
        return np.array(both.ids, np.int64), np.array(both.type_ids, np.int64)

    def types(self, length: int) -> TokenIds | None:
        """Return the token types of a single text of this many tokens; None if all are 0."""
        if not self._has_types:
            return None
        frame = self._frame
        body = max(length - len(frame.before) - len(frame.after), 0)
        kinds = [kind for _, kind in frame.before] + [frame.body_type] * body
        return np.array([*kinds, *(kind for _, kind in frame.after)][:length], np.int64)

    def sample(self, length: int) -> TokenIds:
        """Return a valid row of exactly this many tokens, including special tokens.

        Between them stand ordinary tokens, and the largest id that a text can be given.
        """
        frame = self._frame
        body = np.resize(self._ordinary, max(length - len(frame.before) - len(frame.after), 0))
        if len(body) and self._largest_id not in frame.ids:
            body[0] = self._largest_id
        before, after = ([number for number, _ in side] for side in (frame.before, frame.after))
        return np.concatenate([before, body, after]).astype(np.int64)[:length]

    def decode(self, ids: TokenIds, skip_special: bool = True) -> str:
        """Return the text of these ids, by default without special tokens."""
        text: str = self._tokenizer.decode(ids.tolist(), skip_special_tokens=skip_special)
        return text

    @property
    def frame_ids(self) -> Sequence[int]:
        """Return the special tokens that are put around every text."""
        return self._frame.ids

    @property
    def largest_id(self) -> int:
        """Return the largest id of the vocabulary."""
        return self._largest_id


@dataclass(frozen=True, slots=True)
class _Frame:
    """The special tokens around a single text, each as its id and type."""

    before: Sequence[tuple[int, int]]
    after: Sequence[tuple[int, int]]
    body_type: int

    @classmethod
    def of(cls, tokenizer: Tokenizer) -> "_Frame":
        for text in _SHORT_TEXTS:
            bare = tokenizer.encode(text, add_special_tokens=False).ids
            if bare:
                break
        row = tokenizer.encode(text)
        tokens = list(zip(row.ids, row.type_ids, strict=True))
        size = len(bare)
        starts = [at for at in range(len(tokens)) if row.ids[at : at + size] == bare]
        start = starts[0] if starts and size else len(tokens)
        body_type = tokens[start][1] if start < len(tokens) else 0
        return cls(tokens[:start], tokens[start + size :], body_type)

    @property
    def ids(self) -> Sequence[int]:
        """Return those of the special tokens."""
        return [number for number, _ in (*self.before, *self.after)]

    @property
    def has_types(self) -> bool:
        """Tell whether a type is not 0."""
        return bool(self.body_type or any(kind for _, kind in (*self.before, *self.after)))


def guarded(function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Call a function of a tokenizer. Raises InvalidInputError if it panics on this text."""
    try:
        return function(*arguments, **options)
    except BaseException as error:
        if not is_panic(error):
            raise
        raise InvalidInputError("the model's tokenizer fails on this text") from None


def _spread(ids: TokenIds) -> TokenIds:
    """Return some of the ids, from all over the vocabulary."""
    if not len(ids):
        return np.zeros(1, np.int64)
    return ids[np.linspace(0, len(ids) - 1, min(len(ids), _SAMPLED)).astype(np.int64)]


def _shares(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text are kept, as `tokenizers` does ("longest first")."""
    short, long = min(first, second), max(first, second)
    kept = min(long, max(short, room - short))
    if short + kept > room:
        short, kept = room // 2, room // 2 + room % 2
    return (short, kept) if first <= second else (kept, short)


def valid_text(text: str) -> str:
    """Return the text with lone surrogates replaced and halves of a pair joined."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def pad_rows(
    rows: Sequence[TokenIds], pad_id: int, multiple: int = 1
) -> tuple[TokenIds, NDArray[np.int64]]:
    """Put rows of ids under one another, padded on the right to the longest.

    Args:
        rows: one or more, each int64 [T] of its own T.
        pad_id: what fills the rest; the mask hides it.
        multiple: round the width up to a multiple of this, where a device likes few shapes.

    Returns:
        ids and mask (1 for a token, 0 for padding), both int64 [rows, width].
    """
    width = -(-max(map(len, rows)) // multiple) * multiple
    ids = np.full((len(rows), width), pad_id, np.int64)
    mask = np.zeros((len(rows), width), np.int64)
    for place, row in enumerate(rows):
        ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return ids, mask
