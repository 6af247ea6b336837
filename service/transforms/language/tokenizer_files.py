"""A tokenizer from the files that models come with: tokenizer.json, or what is older than that.

The older files hold only a vocabulary; what is done to a text before it is looked up, and which
tokens stand around it, is the convention of a class of tokenizers, named in tokenizer_config.json.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
)

from service.transforms.language.sentencepiece_file import PieceModel, read_pieces
from service.transforms.language.special_tokens import Options, TokenFiles, add_tokens
from service.transforms.language.tokenizer_options import lowercase, settle

TOKENIZER_CONFIG = "tokenizer_config.json"
SPECIAL_TOKENS = "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
CONFIG = "config.json"

_Maker: TypeAlias = Callable[[Path, Options], Tokenizer]

_SPACES = " {2,}"
_PUNCTUATION = r"[!-/:-@\[-`{-~]"
"""That of ASCII."""


def tokenizer_of(path: Path, kind: str = "", *, lowercases: bool = False) -> Tokenizer:
    """Return the tokenizer of a file, as transformers' fast tokenizers make it.

    Args:
        path: tokenizer.json, vocab.txt, vocab.json (with merges.txt) or a SentencePiece
            model. tokenizer_config.json and special_tokens_map.json in its folder are read too.
        kind: transformers' class of the tokenizer, for any but tokenizer.json.
        lowercases: whether texts are lowercased before all else.

    Raises:
        OSError: a file is missing.
        ValueError: a file is broken, or the class is not one of those known for such a file.
    """
    beside = (TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS, CONFIG)
    files = TokenFiles(*(_table(path.parent / name) for name in beside))
    if path.name.endswith("tokenizer.json"):
        tokenizer = Tokenizer.from_buffer(path.read_bytes())
        settle(tokenizer, files)
    else:
        tokenizer = _of_vocabulary(path, kind, files)
    if lowercases:
        lowercase(tokenizer)
    return tokenizer


def _of_vocabulary(path: Path, kind: str, files: TokenFiles) -> Tokenizer:
    base = kind.removesuffix("Fast")
    makers = _MAKERS.get(path.suffix, {})
    if base not in makers:
        known = ", ".join(makers) or "none"
        raise ValueError(f"a {path.name} of tokenizer_class {kind!r} is not known; known: {known}")
    tokenizer = makers[base](path, files.options)
    add_tokens(tokenizer, base, files)
    return tokenizer


def _table(path: Path) -> Options:
    if not path.is_file():
        return {}
    table = json.loads(path.read_bytes())
    if not isinstance(table, dict):
        raise ValueError(f"{path.name} must hold a JSON object")  # noqa: TRY004 - of a file
    return table


def _named(options: Options, which: str, default: str) -> str:
    token = options.get(f"{which}_token")
    if isinstance(token, Mapping):
        token = token.get("content")
    return token if isinstance(token, str) else default


def _bert(path: Path, options: Options) -> Tokenizer:
    words = path.read_text(encoding="utf-8").split("\n")
    if words and not words[-1]:
        words.pop()
    vocabulary = {word.rstrip("\r"): number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=_named(options, "unk", "[UNK]")))
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=options.get("tokenize_chinese_chars", True),
        strip_accents=options.get("strip_accents"),
        lowercase=options.get("do_lower_case", True),
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(prefix="##")
    return _around(tokenizer, _named(options, "cls", "[CLS]"), _named(options, "sep", "[SEP]"))


def _byte_pairs(path: Path, options: Options) -> Tokenizer:
    merges = str(path.parent / "merges.txt")
    vocabulary, pairs = models.BPE.read_file(str(path), merges)
    tokenizer = Tokenizer(
        models.BPE(vocabulary, pairs, continuing_subword_prefix="", end_of_word_suffix="")
    )
    spaced = options.get("add_prefix_space", False)
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=spaced)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _roberta(path: Path, options: Options) -> Tokenizer:
    tokenizer = _byte_pairs(path, options)
    cls, sep = _named(options, "cls", "<s>"), _named(options, "sep", "</s>")
    # By position: the second one's name is not the same in all versions of tokenizers.
    tokenizer.post_processor = processors.RobertaProcessing(
        (sep, _id(tokenizer, sep)),
        (cls, _id(tokenizer, cls)),
        add_prefix_space=options.get("add_prefix_space", False),
        trim_offsets=True,
    )
    return tokenizer


def _deberta(path: Path, options: Options) -> Tokenizer:
    return _around(_byte_pairs(path, options), "[CLS]", "[SEP]")


def _albert(path: Path, options: Options) -> Tokenizer:
    pieces = read_pieces(path)
    # Such pieces come last: transformers splits a number from the comma after it.
    scores = [
        (text, score - 100 if len(text) > 1 and text[-1] == "," and text[-2].isdigit() else score)
        for text, score in pieces.scores
    ]
    steps: list[Any] = [normalizers.Replace("``", '"'), normalizers.Replace("''", '"')]
    if not options.get("keep_accents", False):
        steps += [normalizers.NFKD(), normalizers.StripAccents()]
    if options.get("do_lower_case", True):
        steps.append(normalizers.Lowercase())
    tokenizer = _unigram(pieces, scores, pieces.unknown_id)
    tokenizer.normalizer = normalizers.Sequence([*steps, *_charsmap(pieces), _replace_spaces(" ")])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return _around(tokenizer, "[CLS]", "[SEP]")


def _deberta_v2(path: Path, options: Options) -> Tokenizer:
    pieces = read_pieces(path)
    tokenizer = _unigram(pieces, pieces.scores, pieces.unknown_id)
    steps: list[Any] = [normalizers.Lowercase()] if options.get("do_lower_case") else []
    steps += [normalizers.Strip(), *_charsmap(pieces), _replace_spaces(" ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    splits = [pre_tokenizers.Punctuation(behavior="isolated")] * bool(options.get("split_by_punct"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, pre_tokenizers.Metaspace()])
    tokenizer.add_special_tokens(["[MASK]"])  # of which the file knows nothing
    return _around(tokenizer, "[CLS]", "[SEP]")


def _siglip(path: Path, options: Options) -> Tokenizer:
    pieces = read_pieces(path)
    # Control symbols that are spelt out in a text are plain characters to it.
    pieces = replace(pieces, symbols=[one for one in pieces.symbols if not one[1]])
    tokenizer = _unigram(pieces, pieces.scores, pieces.unknown_id)
    steps: list[Any] = [normalizers.Lowercase()] if options.get("do_lower_case", True) else []
    steps += [
        normalizers.Replace("▁", " "),
        normalizers.Replace(Regex(_PUNCTUATION), ""),
        normalizers.Replace(Regex(r"\s+"), " "),
        normalizers.Strip(),
        *_charsmap(pieces),
        normalizers.Strip(),  # of what the map has made spaces
        _replace_spaces(" "),
    ]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>",
        pair="$A </s> $B </s>",
        special_tokens=[("</s>", _id(tokenizer, "</s>"))],
    )
    return tokenizer


def _xlm_roberta(path: Path, options: Options) -> Tokenizer:
    pieces = read_pieces(path)
    first = [(token, 0.0) for token in ("<s>", "<pad>", "</s>", "<unk>")]
    tokenizer = _unigram(pieces, [*first, *pieces.scores[3:], ("<mask>", 0.0)], 3)
    steps = [*_charsmap(pieces), normalizers.Strip(left=False, right=True), _replace_spaces("▁")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", _id(tokenizer, "<s>")), ("</s>", _id(tokenizer, "</s>"))],
    )
    return tokenizer


def _unigram(pieces: PieceModel, scores: list[tuple[str, float]], unknown_id: int) -> Tokenizer:
    if not pieces.is_unigram:
        raise ValueError("its SentencePiece model is not of the kind unigram")
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=unknown_id, byte_fallback=False))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_tokens(
        [AddedToken(text, normalized=False, special=special) for text, special in pieces.symbols]
    )
    return tokenizer


def _charsmap(pieces: PieceModel) -> list[Any]:
    return [normalizers.Precompiled(pieces.charsmap)] if pieces.charsmap else []


def _replace_spaces(by: str) -> Any:
    return normalizers.Replace(Regex(_SPACES), by)


def _around(tokenizer: Tokenizer, cls: str, sep: str) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, _id(tokenizer, cls)), (sep, _id(tokenizer, sep))],
    )
    return tokenizer


def _id(tokenizer: Tokenizer, token: str) -> int:
    number: int | None = tokenizer.token_to_id(token)
    if number is None:
        raise ValueError(f"the vocabulary has no {token}")
    return number


_PIECES: Mapping[str, _Maker] = {
    "AlbertTokenizer": _albert,
    "DebertaV2Tokenizer": _deberta_v2,
    "SiglipTokenizer": _siglip,
    "XLMRobertaTokenizer": _xlm_roberta,
}
_MAKERS: Mapping[str, Mapping[str, _Maker]] = {
    ".txt": dict.fromkeys(
        (
            "BertTokenizer",
            "DistilBertTokenizer",
            "ElectraTokenizer",
            "MobileBertTokenizer",
            "ConvBertTokenizer",
        ),
        _bert,
    ),
    ".json": {"RobertaTokenizer": _roberta, "DebertaTokenizer": _deberta},
    ".model": _PIECES,
}
"""By the ending of the file, then by transformers' class."""
