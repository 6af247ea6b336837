"""From a text to token ids and back, by a Hugging Face `tokenizers` file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from service.errors import InvalidInputError, ModelLoadError

# The library would start a thread per core of its own; ours are counted and already busy.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TokenIds: TypeAlias = NDArray[np.int64]


class TextTokenizer:
    """Turns texts into int64 token ids. Never changes after construction; any thread may use it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        tokenizer.no_truncation()  # what its file says of these two was for somebody's training
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._special_tokens: int = tokenizer.num_special_tokens_to_add(False)

    @classmethod
    def open(cls, path: Path) -> "TextTokenizer":
        """Read a tokenizer.json.

        Raises:
            ModelLoadError: the file is missing, or is not a tokenizer.
        """
        try:
            return cls(Tokenizer.from_buffer(path.read_bytes()))
        except (OSError, ValueError) as error:
            raise ModelLoadError(
                f"{path.name} is no tokenizer that can be read: {error}"
            ) from error

    @property
    def special_tokens(self) -> int:
        """Return how many tokens are added around every text."""
        return self._special_tokens

    def encode(self, text: str, max_length: int) -> tuple[TokenIds, bool]:
        """Tokenize a text, special tokens included.

        A text that is too long loses its end, never its special tokens. Lone surrogates, which
        are no Unicode text, count as U+FFFD.

        Returns:
            int64 [T] with T at most `max_length`, and whether the text was cut.

        Raises:
            InvalidInputError: the text is empty, blank, or has nothing the model could read.
        """
        if not text or text.isspace():
            raise InvalidInputError("the text is empty")
        # `encode` would hold the interpreter's lock (0.2 s for a long text); the batch method
        # releases it and, by not computing offsets, is faster even for one short text.
        valid = _valid(text)
        encoding = self._tokenizer.encode_batch_fast([valid])[0]
        if len(encoding) <= self._special_tokens:
            raise InvalidInputError("the text has nothing that this model reads")
        cut = len(encoding) > max_length
        if cut:  # once more, for the special tokens of a text that is too long are at its end
            bare = self._tokenizer.encode_batch_fast([valid], add_special_tokens=False)[0]
            bare.truncate(max_length - self._special_tokens)
            encoding = self._tokenizer.post_process(bare)
        return np.array(encoding.ids, np.int64), cut

    def decode(self, ids: TokenIds) -> str:
        """Return the text of these ids, without special tokens."""
        text: str = self._tokenizer.decode(ids.tolist(), skip_special_tokens=True)
        return text


def _valid(text: str) -> str:
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
    lengths = np.fromiter(map(len, rows), np.intp, len(rows))
    width = -(-int(lengths.max()) // multiple) * multiple
    filled = np.arange(width) < lengths[:, None]
    ids = np.full(filled.shape, pad_id, np.int64)
    ids[filled] = np.concatenate(rows)
    return ids, filled.astype(np.int64)
