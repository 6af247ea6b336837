"""A text in overlapping windows of tokens, each token with its place in the text."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInputError
from service.transforms.language.text import TextTokenizer, TokenIds, guarded, valid_text

_IN_NO_VOCABULARY = "\U000f1234"
_BYTE = "<0x"
"""How tokenizers with a fallback name the token of a byte."""


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """Consecutive tokens of a text, with the special tokens around them; every array is [T]."""

    ids: TokenIds
    types: NDArray[np.int64]
    is_special: NDArray[np.bool_]
    starts: NDArray[np.int64]
    """Index in the text of each token's first character."""
    ends: NDArray[np.int64]
    """Index after its last character."""
    is_subword: NDArray[np.bool_]
    """Whether it continues the word of the token before it."""

    def at(self, places: NDArray[np.int64]) -> "TokenWindow":
        """Return the tokens at some places."""
        return TokenWindow(*(getattr(self, name)[places] for name in TokenWindow.__slots__))


@dataclass(frozen=True, slots=True)
class WindowTokenizer:
    """Cuts texts into windows as the tokenizers of transformers do with a stride."""

    tokenizer: TextTokenizer
    marks_subwords: bool
    """Whether the vocabulary marks tokens that continue a word (WordPiece)."""
    unknown: int | None
    """Token of what is not in the vocabulary."""

    @classmethod
    def of(cls, tokenizer: TextTokenizer) -> "WindowTokenizer":
        """Look at the vocabulary of a tokenizer."""
        marks = bool(getattr(tokenizer.backend.model, "continuing_subword_prefix", None))
        return cls(tokenizer, marks, _unknown(tokenizer))

    def windows(self, text: str, max_length: int, stride: int) -> Sequence[TokenWindow]:
        """Tokenize a text.

        Args:
            text: lone surrogates in it count as U+FFFD.
            max_length: tokens of a window, special ones included.
            stride: tokens that a window shares with the next.

        Returns:
            One window or more; the parts of the text in order, unless the tokenizer cuts texts at
            the beginning.

        Raises:
            InvalidInputError: the text is empty, or has nothing the model could read, or the
                stride is too long for a window.
        """
        if not text or text.isspace():
            raise InvalidInputError("the text is empty")
        room = max_length - self.tokenizer.special_tokens
        if not 0 <= stride < room:
            raise InvalidInputError(
                f"stride is {stride}, and must be less than the {room} tokens of a window"
            )
        valid = valid_text(text)
        # Of the methods with offsets, only the one for batches releases the interpreter's lock.
        (encoding,) = guarded(self.tokenizer.backend.encode_batch, [valid])
        whole = self._all_tokens(valid, encoding)
        frame = np.flatnonzero(~whole.is_special)
        if not len(frame):
            raise InvalidInputError("the text has nothing that this model reads")
        begin, end = int(frame[0]), int(frame[-1]) + 1
        before, after = np.arange(begin), np.arange(end, len(whole.ids))
        return [
            whole.at(np.concatenate([before, np.arange(begin + first, begin + last), after]))
            for first, last in self._parts(end - begin, room, stride)
        ]

    def _parts(self, count: int, room: int, stride: int) -> Iterator[tuple[int, int]]:
        """Yield first token and end of each window, from the end that is never cut."""
        for first in range(0, max(count - stride, 1), room - stride):
            last = min(first + room, count)
            yield (first, last) if self.tokenizer.cuts_the_end else (count - last, count - first)

    def _all_tokens(self, text: str, encoding: Any) -> TokenWindow:
        offsets = encoding.offsets
        subwords = [
            number != self.unknown and self._continues(text, token, *place)
            for number, token, place in zip(encoding.ids, encoding.tokens, offsets, strict=True)
        ]
        starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
        return TokenWindow(
            np.array(encoding.ids, np.int64),
            np.array(encoding.type_ids, np.int64),
            np.array(encoding.special_tokens_mask, np.bool_),
            starts,
            ends,
            np.array(subwords, np.bool_),
        )

    def _continues(self, text: str, token: str, start: int, end: int) -> bool:
        """Tell whether a token continues a word, by the rules of transformers' pipeline."""
        if self.marks_subwords:
            return len(token) != end - start
        return start > 0 and " " not in text[start - 1 : start + 1]


def _unknown(tokenizer: TextTokenizer) -> int | None:
    backend = tokenizer.backend
    if (name := getattr(backend.model, "unk_token", None)) is not None:
        known: int | None = backend.token_to_id(name)
        return known
    encoding = backend.encode(_IN_NO_VOCABULARY, add_special_tokens=False)
    if not len(encoding) or encoding.tokens[-1].startswith(_BYTE):
        return None
    name = backend.id_to_token(encoding.ids[-1])
    is_read = len(set(encoding.ids)) > 2 or _IN_NO_VOCABULARY in name  # noqa: PLR2004 - bytes
    return None if is_read else int(encoding.ids[-1])
