"""What families that read a text and write another have alike: subwords, options, batches."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from service.families.family import LANE
from service.families.translation.options import LOOP_WINDOW, DefaultSearch, timed_lengths
from service.families.translation.search.decoding import Decoding
from service.families.translation.search.rules import UNFORCED, TokenRules
from service.repository.paths import file_inside
from service.tasks import GenerateItem, TranslateItem
from service.transforms.language.subwords import SubwordKind, Subwords, open_subwords
from service.transforms.language.text import pad_rows
from service.types import AnswerT, Feeds, PreparedItem, Processor

_SHORTEST = 8
# Repeated to the length that warm-up needs.
_SAMPLE = "a text, 一"

AskedT = TypeVar("AskedT", bound=TranslateItem | GenerateItem)


@dataclass(frozen=True, slots=True)
class SequenceParameters:
    """The manifest's `[parameters]`. Lengths are in tokens, special ones included."""

    rules: TokenRules
    """How texts are searched for."""
    pad_id: int
    """Of the source."""
    max_source_length: int
    """A longer text loses its end."""
    max_target_length: int
    """The most that an item may ask for."""
    tokenizer: SubwordKind = "tokenizers"
    """File of the tokenizer."""
    tokenizer_files: tuple[str, ...] = ("tokenizer.json",)
    """Files of the tokenizer, in the order in which its kind reads them."""
    max_new_tokens: int | None = None
    """Where the item does not say; None means as many as there may be."""
    num_beams: int = 1
    """Where the item does not say."""
    length_penalty: float = 1.0
    """Where the item does not say."""
    loop_window: int = LOOP_WINDOW
    """Last tokens in which a repeated phrase stops the search; 0 turns the check off."""
    tidies_spaces: bool = False
    """Whether spaces before English punctuation are taken out of what is written."""

    @property
    def defaults(self) -> DefaultSearch:
        """Return the options of an item that sets none. Raises ValueError."""
        limit = self.max_target_length if self.max_new_tokens is None else self.max_new_tokens
        return DefaultSearch(
            self.num_beams, self.length_penalty, limit, self.max_target_length, self.loop_window
        )


def subwords_of(
    folder: Path, parameters: SequenceParameters, languages: Sequence[str] = ()
) -> Subwords:
    """Read a tokenizer. Raises ModelLoadError."""
    files = parameters.tokenizer_files
    for name in files:
        file_inside(name, folder, Path(folder.anchor), "[parameters]")  # links were checked
    return open_subwords(folder, parameters.tokenizer, files, languages)


@dataclass(frozen=True, slots=True, eq=False)
class SequenceProcessor(Processor[AskedT, AnswerT], Generic[AskedT, AnswerT]):
    """Tokenizes a text, and decodes what the search found.

    A prepared item has `input_ids`, `is_cut` and `first_id`, the forced first token of what is
    written (UNFORCED if there is none); its group is its `Decoding`. A result is that of
    `result_of`.
    """

    parameters: SequenceParameters
    subwords: Subwords

    @abstractmethod
    def usual_tokens_around(self) -> tuple[Sequence[int], Sequence[int]]:
        """Return the special tokens before and after a text that asks for nothing else."""

    @property
    def lengths(self) -> Sequence[int]:
        """Return the row lengths that warm-up times."""
        longest = self.parameters.max_source_length
        powers = [_SHORTEST << n for n in range(longest.bit_length()) if _SHORTEST << n < longest]
        return timed_lengths([*powers, longest])

    def feeds(self, batch: Sequence[PreparedItem]) -> Feeds:
        """Pad to the longest row of the batch."""
        rows = [prepared.tensors["input_ids"] for prepared in batch]
        ids, mask = pad_rows(rows, self.parameters.pad_id)
        return {"input_ids": ids, "attention_mask": mask}

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of this many tokens, for which as many are written."""
        before, after = self.usual_tokens_around()
        body = self.subwords.encode(_SAMPLE) or list(after)
        words = np.resize(body, max(length - len(before) - len(after), 0))
        ids = np.array([*before, *words, *after], np.int64)[:length]
        return prepared_text(ids, False, None, self.parameters.defaults.timed(length), lane)

    def decoded(self, ids: NDArray[np.int64]) -> str:
        """Return tokens as text."""
        text = self.subwords.decode(ids.tolist())
        return _tidied(text) if self.parameters.tidies_spaces else text

    def room(self, around: tuple[Sequence[int], Sequence[int]]) -> int:
        """Return how many tokens a text may have between these special ones."""
        before, after = around
        return max(self.parameters.max_source_length - len(before) - len(after), 0)


def prepared_text(
    ids: NDArray[np.int64], is_cut: bool, first: int | None, decoding: Decoding, lane: str = LANE
) -> PreparedItem:
    """Return a text's tokens as a prepared item.

    Args:
        ids: special tokens included.
        is_cut: whether the text has lost its end.
        first: the forced first token; None if there is none.
        decoding: the options of the search.
        lane: of the model.
    """
    tensors = {
        "input_ids": ids,
        "is_cut": np.array(is_cut),
        "first_id": np.array(UNFORCED if first is None else first, np.int64),
    }
    return PreparedItem(tensors, lane, len(ids), decoding)


def _tidied(text: str) -> str:
    for mark in (" .", " ?", " !", " ,"):
        text = text.replace(mark, mark[1:])
    text = text.replace(" ' ", "'")
    for ending in (" n't", " 'm", " 's", " 've", " 're"):
        text = text.replace(ending, ending[1:])
    return text
