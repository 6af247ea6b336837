"""Tokens that are found in a text before it is split: of a class of tokenizers, or a model's own.

With a bare vocabulary they are in tokenizer_config.json and special_tokens_map.json, in
added_tokens.json of before there was `added_tokens_decoder`, or nowhere: then the class tells them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from tokenizers import AddedToken, Tokenizer

Options: TypeAlias = Mapping[str, Any]
"""A parsed JSON object."""

_SQUARE: Final = {"unk": "[UNK]", "sep": "[SEP]", "pad": "[PAD]", "cls": "[CLS]", "mask": "[MASK]"}
_ANGLED: Final = {
    "bos": "<s>", "eos": "</s>", "unk": "<unk>", "sep": "</s>", "pad": "<pad>", "cls": "<s>",
    "mask": "<mask>",
}  # fmt: skip
_DEFAULTS: Final[Mapping[str, Mapping[str, str]]] = {
    "RobertaTokenizer": _ANGLED,
    "XLMRobertaTokenizer": _ANGLED,
    "AlbertTokenizer": {**_SQUARE, "unk": "<unk>", "pad": "<pad>"},
}
_SPACE_TAKING: Final = frozenset(
    {"RobertaTokenizer", "XLMRobertaTokenizer", "AlbertTokenizer", "DebertaTokenizer"}
)
"""Classes whose mask takes the space before it, where the files do not say."""

_NAMES: Final = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_SIDES: Final = ("lstrip", "rstrip", "single_word", "normalized")


@dataclass(frozen=True, slots=True)
class TokenFiles:
    """The companion files of a vocabulary; each is empty if its file is absent."""

    config: Options = field(default_factory=dict)
    """tokenizer_config.json"""
    special: Options = field(default_factory=dict)
    """special_tokens_map.json"""
    added: Mapping[str, int] = field(default_factory=dict)
    """added_tokens.json"""
    model: Options = field(default_factory=dict)
    """config.json"""

    @property
    def options(self) -> Options:
        """Return all that is said of the tokenizer; tokenizer_config.json has the last word."""
        return {**self.special, **self.config}


def add_tokens(tokenizer: Tokenizer, base: str, files: TokenFiles) -> None:
    """Let a tokenizer find the special tokens of its class, and those that its files add.

    Args:
        tokenizer: with its vocabulary and nothing added.
        base: transformers' class of it.
        files: the companion files of the vocabulary.

    Raises:
        ValueError: a file gives a token another number than it has here.
    """
    numbers = _numbers(files)
    tokens = _described(base, files)
    for content in sorted(numbers, key=lambda content: numbers[content]):
        tokenizer.add_tokens([tokens.get(content, AddedToken(content, normalized=False))])
        if tokenizer.token_to_id(content) != numbers[content]:
            raise ValueError(
                f"the token {content!r} has the number {numbers[content]} in its files, and would "
                f"be {tokenizer.token_to_id(content)} behind this vocabulary"
            )
    declared = {token_content(files.options.get(f"{name}_token")) for name in _NAMES}
    known = [token for content, token in tokens.items() if content in declared]
    # Of those that only the class tells, a vocabulary may lack some.
    known += [t for content, t in tokens.items() if tokenizer.token_to_id(content) is not None]
    tokenizer.add_special_tokens([token for token in known if token.special])


def _numbers(files: TokenFiles) -> Mapping[str, int]:
    decoder = files.config.get("added_tokens_decoder")
    if isinstance(decoder, Mapping):
        return {
            str(token_content(entry)): int(number)
            for number, entry in decoder.items()
            if token_content(entry) is not None
        }
    return files.added


def _described(base: str, files: TokenFiles) -> Mapping[str, AddedToken]:
    """Return every token by its content; of several descriptions the most particular counts."""
    found: dict[str, AddedToken] = {}
    for name, content in _named(base, files):
        takes_space = name == "mask" and base in _SPACE_TAKING
        found[content] = AddedToken(content, special=True, normalized=False, lstrip=takes_space)
    decoder = files.config.get("added_tokens_decoder")
    described = [*files.special.values(), *files.config.values()]
    for table in (files.special, files.config):
        described += table.get("additional_special_tokens") or ()
    found |= {
        entry["content"]: token_of(entry, special=True)
        for entry in described
        if _is_described(entry)
    }
    if isinstance(decoder, Mapping):
        found |= {e["content"]: token_of(e) for e in decoder.values() if _is_described(e)}
    return found


def _named(base: str, files: TokenFiles) -> Iterator[tuple[str, str]]:
    defaults = _DEFAULTS.get(base, _SQUARE)
    for name in _NAMES:
        content = token_content(files.options.get(f"{name}_token")) or defaults.get(name)
        if content is not None:
            yield name, content
    for table in (files.special, files.config):
        for token in table.get("additional_special_tokens") or ():
            if isinstance(token, str):
                yield "additional", token


def token_of(entry: Mapping[str, Any], special: bool = False) -> AddedToken:
    """Return a token as a JSON object describes it."""
    sides = {side: bool(entry.get(side, False)) for side in _SIDES}
    return AddedToken(entry["content"], special=special or bool(entry.get("special")), **sides)


def _is_described(entry: object) -> bool:
    return isinstance(entry, Mapping) and isinstance(entry.get("content"), str)


def token_content(token: object) -> str | None:
    """Return the text of a token, of its name or its description; None if it is neither."""
    named = token.get("content") if isinstance(token, Mapping) else token
    return named if isinstance(named, str) and named else None
