"""What tokenizer_config.json and its like change of a tokenizer.json, as transformers reads them.

The rules are those of its fast tokenizers in version 4.57. Version 5 agrees, except that it takes
`add_bos_token` and `add_eos_token` of every class; here they count for the classes of version 4
and for `TokenizersBackend`, which only version 5 writes.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final

from tokenizers import AddedToken, Tokenizer, normalizers, pre_tokenizers, processors

from service.transforms.language.special_tokens import Options, TokenFiles, token_content, token_of

_CASED_BY_OPTIONS: Final = frozenset(
    f"{kind}Tokenizer"
    for kind in (
        "Bert", "ConvBert", "DistilBert", "DPRContextEncoder", "DPRQuestionEncoder", "DPRReader",
        "Electra", "Funnel", "LayoutLM", "LayoutLMv2", "Lxmert", "MPNet", "MobileBert",
        "Realm", "Retribert", "Splinter", "SqueezeBert",
    )
)  # fmt: skip
"""Classes that set their BertNormalizer by options, and by defaults where there are none."""

_KEEPS_CHINESE: Final = frozenset({"LayoutLMv2Tokenizer", "MPNetTokenizer", "SplinterTokenizer"})
"""Those of them that do not set what is done to Chinese characters."""

_FRAMED_BY_OPTIONS: Final[Mapping[str, tuple[bool, bool]]] = {
    "CodeLlamaTokenizer": (True, False),
    "CohereTokenizer": (True, False),
    "GemmaTokenizer": (True, False),
    "GPTNeoXTokenizer": (False, False),
    "LlamaTokenizer": (True, False),
}
"""Classes whose first and last token depend on `add_bos_token` and `add_eos_token`, and whether
they have them where nothing is said."""

_MASK_TAKES_SPACE: Final = frozenset(
    f"{kind}Tokenizer"
    for kind in (
        "Bart", "BigBird", "Blenderbot", "Camembert", "Deberta", "LED", "LayoutLMv3", "Longformer",
        "MBart", "MBart50", "MPNet", "Mvp", "Nllb", "Roberta", "XLMRoberta", "XLNet",
    )
)  # fmt: skip
"""Classes whose mask, where it is no description but a name, takes the space before it."""

_OF_VERSION_5 = "TokenizersBackend"

_MODEL_TYPES: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        ("align", "bert", "chinese_clip", "megatron-bert", "nezha", "visual_bert"), "BertTokenizer"
    ),
    "convbert": "ConvBertTokenizer",
    "distilbert": "DistilBertTokenizer",
    "electra": "ElectraTokenizer",
    "funnel": "FunnelTokenizer",
    "gemma": "GemmaTokenizer",
    "layoutlm": "LayoutLMTokenizer",
    "llama": "LlamaTokenizer",
    "lxmert": "LxmertTokenizer",
    "mobilebert": "MobileBertTokenizer",
    "mpnet": "MPNetTokenizer",
    "squeezebert": "SqueezeBertTokenizer",
}
"""transformers' class by config.json's model type, where no file names one."""

_NAMES: Final = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")


def settle(tokenizer: Tokenizer, files: TokenFiles) -> None:
    """Change a tokenizer as transformers does when it loads it from a folder with these files.

    Raises:
        ValueError: a token is asked for that no file names.
    """
    kind = _class_of(files)
    if not files.config and not kind:
        return  # the tokenizer is no export of transformers
    options = _options(files)
    _add_tokens(tokenizer, options, kind, files.added)
    tokenizer.encode_special_tokens = bool(options.get("split_special_tokens", False))
    _set_prefix_space(tokenizer, options, kind)
    if kind in _CASED_BY_OPTIONS:
        _set_case(tokenizer, options, kind)
    _set_frame(tokenizer, options, kind)


def lowercase(tokenizer: Tokenizer) -> None:
    """Lowercase texts before all else, as sentence-transformers does, unless that is done."""
    known = tokenizer.normalizer
    steps = (
        list(known) if isinstance(known, normalizers.Sequence) else [known] * (known is not None)
    )
    if not any(isinstance(step, normalizers.Lowercase) for step in steps):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])


def _class_of(files: TokenFiles) -> str:
    """Return transformers' class, without the ending of the fast ones; empty if nothing tells."""
    for table in (files.config, files.model):
        if isinstance(declared := table.get("tokenizer_class"), str):
            return declared.removesuffix("Fast")
    return _MODEL_TYPES.get(str(files.model.get("model_type", "")), "")


def _options(files: TokenFiles) -> Options:
    """Return what the class is made with; special_tokens_map.json counts in old folders only."""
    if "added_tokens_decoder" in files.config:
        return files.config
    return {**files.config, **files.special}


def _add_tokens(
    tokenizer: Tokenizer, options: Options, kind: str, older: Mapping[str, int]
) -> None:
    known = {repr(token) for token in tokenizer.get_added_tokens_decoder().values()}
    names = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    special: dict[str, AddedToken] = {}
    for content, token in _special_tokens(options, kind):
        special.setdefault(content, token)
    added: list[AddedToken] = []
    for token in _listed_tokens(options, older, special.keys()):
        if repr(token) not in known:
            token.special = token.special or token.content in special
            added.append(token)
            names.add(token.content)
    added += [token for content, token in special.items() if content not in names]
    if added:
        tokenizer.add_tokens(added)


def _listed_tokens(
    options: Options, older: Mapping[str, int], special: Collection[str]
) -> Sequence[AddedToken]:
    """Return the tokens of `added_tokens_decoder`, or those of added_tokens.json before it."""
    if isinstance(decoder := options.get("added_tokens_decoder"), Mapping):
        return [token_of(decoder[number]) for number in sorted(decoder, key=int)]
    return [
        AddedToken(content, normalized=content not in special, special=content in special)
        for content in sorted(older, key=lambda content: older[content])
    ]


def _special_tokens(options: Options, kind: str) -> Iterator[tuple[str, AddedToken]]:
    """Yield the tokens that have a role, in transformers' order."""
    entries = {name: options.get(f"{name}_token") for name in _NAMES}
    more = [*_listed(options.get("additional_special_tokens"))]
    more += _listed(options.get("extra_special_tokens"))
    for name, entry in [*entries.items(), *(("", entry) for entry in more)]:
        content = token_content(entry)
        if content is None:
            continue
        if isinstance(entry, Mapping):
            yield content, token_of(entry, True)
        elif name == "mask" and kind in _MASK_TAKES_SPACE:
            yield content, AddedToken(content, special=True, lstrip=True)
        else:
            yield content, AddedToken(content, special=True)


def _listed(tokens: Any) -> Sequence[Any]:
    return list(tokens.values()) if isinstance(tokens, Mapping) else list(tokens or ())


def _set_prefix_space(tokenizer: Tokenizer, options: Options, kind: str) -> None:
    wanted = options.get("add_prefix_space", None if kind in _FRAMED_BY_OPTIONS else False)
    step = tokenizer.pre_tokenizer
    if isinstance(wanted, bool) and isinstance(step, pre_tokenizers.ByteLevel):
        step.add_prefix_space = wanted
        tokenizer.pre_tokenizer = step


def _set_case(tokenizer: Tokenizer, options: Options, kind: str) -> None:
    normalizer = tokenizer.normalizer
    if not isinstance(normalizer, normalizers.BertNormalizer):
        return
    wanted = {
        "lowercase": options.get("do_lower_case", True),
        "strip_accents": options.get("strip_accents"),
    }
    if kind not in _KEEPS_CHINESE:
        wanted["handle_chinese_chars"] = options.get("tokenize_chinese_chars", True)
    state = json.loads(normalizer.__getstate__())
    state.pop("type", None)
    tokenizer.normalizer = normalizers.BertNormalizer(**{**state, **wanted})


def _set_frame(tokenizer: Tokenizer, options: Options, kind: str) -> None:
    keys = ("add_bos_token", "add_eos_token")
    if kind in _FRAMED_BY_OPTIONS:
        usual = _FRAMED_BY_OPTIONS[kind]
    elif kind == _OF_VERSION_5 and any(key in options for key in keys):
        usual = (False, False)
    else:
        return
    begins, ends = (bool(options.get(key, at)) for key, at in zip(keys, usual, strict=True))
    bos = _framing(tokenizer, options, "bos", "<s>") if begins else None
    eos = _framing(tokenizer, options, "eos", "</s>") if ends else None
    before, after = (f"{bos[0]}:{{0}} " if bos else ""), (f" {eos[0]}:{{0}}" if eos else "")
    single, second = (f"{before}${text}:{{0}}{after}" for text in "AB")
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single.format(0),
        pair=f"{single.format(0)} {second.format(1)}",
        special_tokens=[token for token in (bos, eos) if token],
    )


def _framing(tokenizer: Tokenizer, options: Options, name: str, usual: str) -> tuple[str, int]:
    token = token_content(options.get(f"{name}_token")) or usual
    number: int | None = tokenizer.token_to_id(token)
    if number is None:
        raise ValueError(f"add_{name}_token is set, and the vocabulary has no {token}")
    return token, number
