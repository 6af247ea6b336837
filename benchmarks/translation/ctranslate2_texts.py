"""Texts to CTranslate2's tokens, and back."""

from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer

MOST_TOKENS = 128
"""Of a translation."""


class Texts:
    """The two tokenizers in the folder of a CTranslate2 model."""

    def __init__(self, folder: Path) -> None:
        source, target = (folder / f"{side}_tokenizer.json" for side in ("source", "target"))
        self._source = Tokenizer.from_file(str(source))
        self._target = Tokenizer.from_file(str(target))

    def tokens(self, text: str) -> Sequence[str]:
        """Return a source's tokens, its end among them."""
        tokens: list[str] = self._source.encode(text).tokens
        return tokens

    def text(self, tokens: Sequence[str]) -> str:
        """Return a translation."""
        ids = [self._target.token_to_id(token) for token in tokens]
        return str(self._target.decode(ids))
