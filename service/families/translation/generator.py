"""What models that write a text from another do before and after the search (T5, BART)."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from typing_extensions import override

from service.engine.inflight.scheduler import InFlight
from service.errors import InvalidInputError
from service.families.family import Traits
from service.families.text_input import is_long
from service.families.translation.options import written_of
from service.families.translation.sequences import (
    SequenceParameters,
    SequenceProcessor,
    prepared_text,
    subwords_of,
)
from service.tasks import GenerateItem, Generation
from service.types import PreparedItem, Tensors


@dataclass(frozen=True, slots=True)
class GeneratorParameters(SequenceParameters):
    """The manifest's `[parameters]`. Lengths are in tokens, special ones included."""

    prefix: str = ""
    """Put before a text, unless the item has a prefix of its own."""
    before: tuple[int, ...] = ()
    """Special tokens before a text; the end token comes after it."""

    def __post_init__(self) -> None:
        _ = self.defaults  # validates the options


@dataclass(frozen=True, slots=True, eq=False)
class GeneratorProcessor(SequenceProcessor[GenerateItem, Generation]):
    """Makes a text's tokens, and a text of those that were written."""

    parameters: GeneratorParameters

    @classmethod
    def open(cls, folder: Path, parameters: GeneratorParameters) -> "GeneratorProcessor":
        """Read the tokenizer. Raises ModelLoadError."""
        return cls(parameters, subwords_of(folder, parameters))

    def traits(self, in_flight: InFlight | None = None) -> Traits[GenerateItem, Generation]:
        """Return what generators can do besides what every family does."""
        return Traits(in_flight=in_flight)

    @override
    def usual_tokens_around(self) -> tuple[Sequence[int], Sequence[int]]:
        return self.parameters.before, (self.parameters.rules.eos_ids[0],)

    @override
    def offload(self, item: GenerateItem) -> bool:
        return is_long(item.text)

    @override
    def preprocess(self, item: GenerateItem) -> PreparedItem:
        if not item.text or item.text.isspace():
            raise InvalidInputError("the text is empty")
        own = self.parameters
        prefix = own.prefix if item.prefix is None else item.prefix
        found = self.subwords.encode(prefix + item.text)
        if not found:
            raise InvalidInputError("the text has nothing that this model reads")
        before, after = around = self.usual_tokens_around()
        room = self.room(around)
        ids = np.array([*before, *found[:room], *after], np.int64)
        decoding = own.defaults.decoding(item, ids)
        if (least := item.min_new_tokens) is not None:
            if not 0 <= least <= decoding.max_new_tokens:
                raise InvalidInputError(
                    f"min_new_tokens is {least} and at most {decoding.max_new_tokens} are written"
                )
            decoding = decoding._replace(min_new_tokens=least)
        return prepared_text(ids, len(found) > room, None, decoding)

    @override
    def postprocess(self, result: Tensors, item: GenerateItem) -> Generation:
        written = written_of(result, item.alternatives, self.decoded)
        return Generation(written.text, written.is_truncated, written.reason, written.alternatives)
