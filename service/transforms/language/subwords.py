"""The tokenizers of translation models: from the files that transformers writes, without it.

Unlike `text`, which adds what a tokenizer.json says to add, these give the bare ids of a text:
which tokens stand before and after it depends on the languages, so the family knows them.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from tokenizers import Tokenizer

from service.errors import ModelLoadError
from service.transforms.language.text import valid_text
from service.transforms.language.tokenizer_files import tokenizer_of

if TYPE_CHECKING:  # read when a model needs it: it takes memory, and few models do
    from sentencepiece import SentencePieceProcessor

SubwordKind: TypeAlias = Literal["tokenizers", "marian", "m2m100", "mbart50", "nllb", "t5"]
"""A tokenizer.json, or whose convention of numbering the pieces of a SentencePiece model it is."""

_SPACE = "\u2581"
_FAIRSEQ = {"<s>": 0, "<pad>": 1, "</s>": 2, "<unk>": 3}
_OFFSET = 1
"""fairseq has a padding token that SentencePiece has not, so its numbers are one higher."""

_SENTINEL = re.compile(r"<extra_id_(\d+)>")
_SENTINELS = 100


class Subwords(Protocol):
    """Turns texts into ids and back. Never changes; any thread may use it."""

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens around it."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of these ids, without special tokens."""
        ...

    def id_of(self, token: str) -> int | None:
        """Return a token's id; None if there is no such token."""
        ...


def open_subwords(
    folder: Path, kind: SubwordKind, files: Sequence[str], languages: Sequence[str]
) -> Subwords:
    """Read a tokenizer.

    Args:
        folder: where its files are.
        kind: how to read them.
        files: tokenizer.json, or one for texts and one for translations; source.spm, target.spm
            and vocab.json of "marian"; sentencepiece.bpe.model and vocab.json of "m2m100"; one
            model file of the others.
        languages: the tokens of languages in the order of their ids, for "m2m100" and "mbart50",
            whose vocabularies do not hold them.

    Raises:
        ModelLoadError: a file is missing or broken.
    """
    paths = [folder / name for name in files]
    added = _added_tokens(folder)
    try:
        if kind == "tokenizers":
            return TokenizerFile(*map(tokenizer_of, paths))
        return _READERS[kind](paths, added, languages)
    except Exception as error:  # `tokenizers` raises nothing narrower
        raise ModelLoadError(f"{', '.join(files)} cannot be read: {error}") from error


class TokenizerFile:
    """A tokenizer.json, or one for each side."""

    def __init__(self, source: Tokenizer, target: Tokenizer | None = None) -> None:
        source.no_truncation()
        source.no_padding()
        self._source, self._target = source, target or source

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens around it."""
        # The batch method releases the interpreter's lock.
        encoded = self._source.encode_batch_fast([valid_text(text)], add_special_tokens=False)
        ids: list[int] = encoded[0].ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of these ids, without special tokens."""
        text: str = self._target.decode(list(ids), skip_special_tokens=True)
        return text

    def id_of(self, token: str) -> int | None:
        """Return a token's id; None if there is no such token."""
        found: int | None = self._source.token_to_id(token)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """A SentencePiece model, or one for each side, and the ids of its pieces."""

    source: "SentencePieceProcessor"
    target: "SentencePieceProcessor"
    ids: Mapping[str, int]
    unknown_id: int
    added: Mapping[str, "AddedToken"]
    """Tokens that are found in a text before it is split into pieces."""
    hidden: frozenset[int]
    """Ids of special tokens, which no text shows."""
    leads_with_code: bool = False
    """Whether a text may begin with a token such as `>>fra<<`."""
    joins_pieces: bool = False
    """Whether pieces are put together as they are, rather than by the SentencePiece model."""
    _names: Mapping[int, str] = field(init=False)
    _added: re.Pattern[str] | None = field(init=False)

    def __post_init__(self) -> None:
        longest = sorted(self.added, key=len, reverse=True)
        pattern = re.compile(f"({'|'.join(map(re.escape, longest))})") if longest else None
        object.__setattr__(self, "_added", pattern)
        object.__setattr__(self, "_names", {number: piece for piece, number in self.ids.items()})

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text, without special tokens around it."""
        parts = [valid_text(text)]
        if self._added is not None:
            parts = self._added.split(parts[0])
        ids: list[int] = []
        for index, part in enumerate(parts):
            if index % 2:
                ids.append(self.added[part].number)
            else:
                ids += self._pieces(self._stripped(parts, index))
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of these ids, without special tokens."""
        shown = [self._names.get(number) for number in ids if number not in self.hidden]
        pieces = [piece for piece in shown if piece is not None]
        text = "".join(pieces) if self.joins_pieces else str(self.target.decode_pieces(pieces))
        return text.replace(_SPACE, " ").strip()

    def id_of(self, token: str) -> int | None:
        """Return a token's id; None if there is no such token."""
        return self.added[token].number if token in self.added else self.ids.get(token)

    def _stripped(self, parts: Sequence[str], index: int) -> str:
        """Return a part without the spaces that adjacent special tokens strip."""
        part = parts[index]
        if index > 0 and self.added[parts[index - 1]].takes_right:
            part = part.lstrip()
        if index + 1 < len(parts) and self.added[parts[index + 1]].takes_left:
            part = part.rstrip()
        return part

    def _pieces(self, text: str) -> list[int]:
        if not text:
            return []
        found: list[str] = []
        if self.leads_with_code and text.startswith(">>") and (end := text.find("<<")) != -1:
            found, text = [text[: end + 2]], text[end + 2 :]
        found += self.source.encode(text, out_type=str)
        return [self.ids.get(piece, self.unknown_id) for piece in found]


@dataclass(frozen=True, slots=True)
class AddedToken:
    """A token of a tokenizer_config.json's added_tokens_decoder."""

    number: int
    is_special: bool = True
    takes_left: bool = False
    """Whether the spaces before it belong to it."""
    takes_right: bool = False


def _added_tokens(folder: Path) -> Mapping[str, AddedToken]:
    path = folder / "tokenizer_config.json"
    table = json.loads(path.read_bytes()) if path.is_file() else {}
    entries: Mapping[str, Any] = table.get("added_tokens_decoder", {})
    return {
        str(entry["content"]): AddedToken(
            int(number),
            bool(entry.get("special", True)),
            bool(entry.get("lstrip", False)),
            bool(entry.get("rstrip", False)),
        )
        for number, entry in entries.items()
    }


def _processor(path: Path) -> "SentencePieceProcessor":
    from sentencepiece import SentencePieceProcessor  # noqa: PLC0415 - said above

    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(path.read_bytes())
    return processor


def _hidden(added: Mapping[str, AddedToken]) -> frozenset[int]:
    return frozenset(token.number for token in added.values() if token.is_special)


def _with(added: Mapping[str, AddedToken], ids: Mapping[str, int]) -> Mapping[str, AddedToken]:
    """Return the added tokens, also those of old files, which do not list them."""
    return {**{token: AddedToken(number) for token, number in ids.items()}, **added}


def _vocabulary(path: Path) -> dict[str, int]:
    table = json.loads(path.read_bytes())
    if not isinstance(table, dict) or not all(isinstance(n, int) for n in table.values()):
        raise ValueError(f"{path.name} must map pieces to numbers")
    return table


def _marian(
    paths: Sequence[Path], added: Mapping[str, AddedToken], languages: Sequence[str]
) -> Pieces:
    source, target, vocabulary = paths
    ids = _vocabulary(vocabulary)
    added = _with(added, {name: ids[name] for name in ("</s>", "<unk>", "<pad>")})
    return Pieces(
        _processor(source), _processor(target), ids, ids["<unk>"], added,
        _hidden(added), leads_with_code=True,
    )  # fmt: skip


def _m2m100(
    paths: Sequence[Path], added: Mapping[str, AddedToken], languages: Sequence[str]
) -> Pieces:
    model, vocabulary = paths
    ids = _vocabulary(vocabulary)
    special = {name: ids[name] for name in ("<s>", "</s>", "<unk>", "<pad>")}
    tokens = {name: len(ids) + index for index, name in enumerate(languages)}
    processor = _processor(model)
    added = _with(added, special)
    return Pieces(
        processor, processor, {**ids, **tokens}, ids["<unk>"], added,
        _hidden(added) | frozenset(tokens.values()),
    )  # fmt: skip


def _fairseq(
    paths: Sequence[Path],
    added: Mapping[str, AddedToken],
    languages: Sequence[str],
    joins_pieces: bool,
) -> Pieces:
    processor = _processor(paths[0])
    size = processor.get_piece_size()
    # Its number 0 is the unknown piece, which fairseq calls otherwise.
    ids = {processor.id_to_piece(number): number + _OFFSET for number in range(1, size)}
    after = {name: size + _OFFSET + index for index, name in enumerate(languages)}
    after["<mask>"] = size + _OFFSET + len(languages)
    added = _with(added, {**_FAIRSEQ, **after})
    return Pieces(
        processor, processor, {**ids, **_FAIRSEQ}, _FAIRSEQ["<unk>"], added,
        _hidden(added), joins_pieces=joins_pieces,
    )  # fmt: skip


def _mbart50(
    paths: Sequence[Path], added: Mapping[str, AddedToken], languages: Sequence[str]
) -> Pieces:
    return _fairseq(paths, added, languages, joins_pieces=False)


def _nllb(
    paths: Sequence[Path], added: Mapping[str, AddedToken], languages: Sequence[str]
) -> Pieces:
    return _fairseq(paths, added, languages, joins_pieces=True)


def _t5(paths: Sequence[Path], added: Mapping[str, AddedToken], languages: Sequence[str]) -> Pieces:
    processor = _processor(paths[0])
    size = processor.get_piece_size()
    ids = {processor.id_to_piece(number): number for number in range(size)}
    special = {name: ids[name] for name in ("</s>", "<unk>", "<pad>")}
    if not any(map(_SENTINEL.fullmatch, added)):
        last = size + _SENTINELS - 1
        sentinels = {f"<extra_id_{n}>": AddedToken(last - n, True, True, True) for n in range(100)}
        added = {**sentinels, **added}
    added = _with(added, special)
    return Pieces(processor, processor, ids, ids["<unk>"], added, _hidden(added))


_READERS: Mapping[
    str, Callable[[Sequence[Path], Mapping[str, AddedToken], Sequence[str]], Pieces]
] = {"marian": _marian, "m2m100": _m2m100, "mbart50": _mbart50, "nllb": _nllb, "t5": _t5}
