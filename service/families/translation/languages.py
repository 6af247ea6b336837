"""Which languages a translator knows, and what stands round a text of one for another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from service.errors import InvalidInputError
from service.repository.tables import did_you_mean
from service.transforms.language.languages import meant_by

Template: TypeAlias = Literal["eos", "source_eos", "eos_source", "target_eos"]
"""What stands round a text: the end token, and the token of a language before the text (when
named first) or after it all. With the source's token there, the translation is made to begin
with the target's."""


@dataclass(frozen=True, slots=True)
class Pair:
    """From which language to which, as the model calls them."""

    source: str
    target: str


@dataclass(frozen=True, slots=True, eq=False)
class Languages:
    """The languages of one model."""

    template: Template
    ids: Mapping[str, int]
    """Ids of the languages' tokens, by code; empty where a text needs none."""
    prefixes: Mapping[str, str]
    """What is written before a text, by "source-target"; empty where nothing is."""
    source: str | None
    """Where the item does not say; None if it must."""
    target: str | None

    def pair(self, source: str | None, target: str | None) -> Pair:
        """Return the pair that an item asks for.

        Raises:
            InvalidInputError: this model does not translate it, or the request must name it.
        """
        if self.prefixes:
            return self._of_prefixes(source, target)
        return Pair(
            _chosen("source", source or self.source, self.sources),
            _chosen("target", target or self.target, self.targets),
        )

    @property
    def sources(self) -> tuple[str, ...]:
        """Return the languages that it translates from, as the model calls them."""
        if self.prefixes:
            return tuple(dict.fromkeys(pair.source for pair in self._pairs()))
        # A model of one pair knows it by its defaults; one of many, by its tokens.
        is_one = self.template in ("eos", "target_eos")
        return (str(self.source),) if is_one else tuple(self.ids)

    @property
    def targets(self) -> tuple[str, ...]:
        """Return the languages that it translates to, as the model calls them."""
        if self.prefixes:
            return tuple(dict.fromkeys(pair.target for pair in self._pairs()))
        if self.template == "eos":
            return (str(self.target),)
        if self.template == "target_eos" and self.target is not None:
            # The whole group too, of which the model then chooses.
            return tuple(dict.fromkeys([*self.ids, self.target]))
        return tuple(self.ids)

    def around(self, pair: Pair, eos_id: int) -> tuple[Sequence[int], Sequence[int]]:
        """Return the ids before a text and after it."""
        match self.template:
            case "eos":
                return (), (eos_id,)
            case "source_eos":
                return (self.ids[pair.source],), (eos_id,)
            case "eos_source":
                return (), (eos_id, self.ids[pair.source])
            case "target_eos":
                chosen = self.ids.get(pair.target)
                return () if chosen is None else (chosen,), (eos_id,)

    def prefix(self, pair: Pair) -> str:
        """Return the words before a text."""
        return self.prefixes.get(f"{pair.source}-{pair.target}", "")

    def first_id(self, pair: Pair) -> int | None:
        """Return the token that the translation must begin with; None if it is free."""
        return self.ids[pair.target] if self.template in ("source_eos", "eos_source") else None

    def _pairs(self) -> Sequence[Pair]:
        return [Pair(*name.split("-", 1)) for name in self.prefixes]

    def _of_prefixes(self, source: str | None, target: str | None) -> Pair:
        wanted = (source or self.source, target or self.target)
        sources, targets = (
            codes if asked is None else meant_by(asked, codes)
            for asked, codes in zip(wanted, (self.sources, self.targets), strict=True)
        )
        fitting = [p for p in self._pairs() if p.source in sources and p.target in targets]
        known = ", ".join(self.prefixes)
        if not fitting:
            raise InvalidInputError(
                f"this model translates {known}, not from {wanted[0]!r} to {wanted[1]!r}"
            )
        if len(fitting) > 1:
            raise InvalidInputError(f"this model translates {known}: say source and target")
        return fitting[0]


def _chosen(which: str, asked: str | None, codes: tuple[str, ...]) -> str:
    if asked is None:
        raise InvalidInputError(f"this model translates between many languages: say {which}")
    found = meant_by(asked, codes)
    if len(found) > 1:
        raise InvalidInputError(f"{which} {asked!r} may mean any of {', '.join(found)}: name one")
    if not found:
        known = f", only {codes[0]!r}" if len(codes) == 1 else did_you_mean(asked, codes)
        raise InvalidInputError(f"{which} {asked!r} is no language that this model knows{known}")
    return found[0]
