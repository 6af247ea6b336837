"""Sentence pairs and tokenizers of the starter translator."""

import json
import random
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer

from models.datasets.everyday import everyday_pairs, everyday_phrases
from models.datasets.files import Pair, data_folder, read_jsonl

SPECIAL_TOKENS = ["<pad>", "<s>", "</s>"]
BYTE_TOKENS = [f"<0x{byte:02X}>" for byte in range(256)]
LONGEST_WORD = 4
EVERYDAY = 20_000
"""Sentences made of patterns, of which an epoch takes some."""
_ENDS = "。！？.!?"
_BARE = 0.1
_PHRASES = 40
"""How often an epoch has each phrase."""
MADE = "\x02"
"""Before a Chinese sentence that a translator made, so that its faults are not taken for Chinese
(Caswell et al. 2019, "Tagged Back-Translation")."""
_DICTIONARY_STYLE = re.compile(
    r"[()\[\]|/,;:\d\"]|[^ -~]|\.\.\."
    r"|^(surname|variant|old variant|see|abbr|also|name|used|same|equivalent|one of)\b"
)
_HAN_WORD = re.compile(r"[\u4e00-\u9fff]{1,4}")


@dataclass(frozen=True, slots=True)
class EvaluationSet:
    """Chinese sentences, each with one or more English references."""

    zh: list[str]
    references: list[list[str]]


@dataclass(frozen=True, slots=True)
class Corpora:
    """What the recipe trains on; no side of a pair, phrases excepted, occurs in a held-out set."""

    sentences: list[Pair]
    documentation: list[Pair]
    lexicon: list[Pair]
    phrases: list[Pair]
    everyday: list[Pair]
    back_translated: list[Pair]


def read_evaluation_set(path: Path) -> EvaluationSet:
    """Read a dev or test file; rows without ``refs`` have one reference."""
    rows = read_jsonl(path)
    return EvaluationSet(
        [row["zh"] for row in rows], [row.get("refs", [row["en"]]) for row in rows]
    )


def read_corpora(data: Path, back_translated: Path | None = None) -> Corpora:
    """Read the training pairs and drop those that share a side with a held-out set."""
    held_out = {_folded(side) for side in _held_out_sides(data)}

    def unseen(pairs: Iterable[Pair]) -> list[Pair]:
        return [p for p in pairs if not {_folded(p.zh), _folded(p.en)} & held_out]

    return Corpora(
        sentences=unseen(_read_pairs(data_folder(data, "tatoeba_zh_en") / "train.jsonl.gz")),
        documentation=unseen(_read_pairs(data_folder(data, "pydocs_zh_en") / "train.jsonl.gz")),
        lexicon=unseen(read_lexicon(data)),
        phrases=everyday_phrases(),  # some are held-out sentences, too
        everyday=unseen(everyday_pairs(EVERYDAY, seed=1)),
        back_translated=[
            Pair(MADE + pair.zh, pair.en)
            for pair in (unseen(_read_pairs(back_translated)) if back_translated else ())
        ],
    )


def read_lexicon(data: Path) -> list[Pair]:
    """CC-CEDICT words with their first short gloss that reads like a plain phrase."""
    pairs = []
    for row in read_jsonl(data_folder(data, "cedict_lexicon") / "cedict_20191025.jsonl.gz"):
        gloss = next(filter(_is_plain, row["en"]), None)
        if gloss is not None and _HAN_WORD.fullmatch(row["zh"]) and row["pinyin"].islower():
            pairs.append(Pair(row["zh"], gloss.removeprefix("to ")))
    return pairs


def _is_plain(gloss: str) -> bool:
    return len(gloss.split()) <= 4 and not _DICTIONARY_STYLE.search(gloss)


def _read_pairs(path: Path) -> list[Pair]:
    return [Pair(row["zh"], row["en"]) for row in read_jsonl(path)]


def _held_out_sides(data: Path) -> Iterator[str]:
    for name in ("tatoeba_zh_en", "pydocs_zh_en", "ntrex_zh_en_eval"):
        for path in sorted(data_folder(data, name).glob("*.jsonl.gz")):
            if path.name.startswith("train"):
                continue
            for row in read_jsonl(path):
                yield row["zh"]
                yield from row.get("refs", [row["en"]])


def _folded(text: str) -> str:
    """Letters and digits only, so that punctuation and case cannot hide an overlap."""
    return "".join(c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum())


def train_source_tokenizer(corpora: Corpora, vocabulary: int) -> Tokenizer:
    """Learn Chinese characters and frequent words, Latin pieces, and bytes for the rest.

    Sentences are cut into dictionary words first, so that a learned piece is a word and not
    a frequent run of characters across words.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.Replace(Regex(r"\s+"), " "),
            normalizers.Replace(Regex(r" (?=\p{Han})|(?<=\p{Han}) "), ""),
            normalizers.Strip(),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Metaspace(prepend_scheme="never", split=True),
            pre_tokenizers.Split(Regex(r"\p{Han}+|\d|▁?\p{Latin}+"), "isolated"),
            pre_tokenizers.Punctuation("isolated"),
        ]
    )
    # Only a translator into Chinese decodes: the recipe's own, for back-translation.
    tokenizer.decoder = decoders.Sequence(
        [decoders.ByteFallback(), decoders.Fuse(), decoders.Replace("▁", " ")]
    )
    words = {pair.zh for pair in corpora.lexicon if len(pair.zh) > 1}
    texts = [pair.zh for pair in corpora.sentences] * 2
    texts += [pair.zh for pair in corpora.documentation + corpora.everyday[:5000]]
    texts = [unicodedata.normalize("NFKC", text) for text in texts]
    known = _characters_seen_twice(pair.zh for pair in corpora.sentences + corpora.documentation)
    pieces = (piece for text in texts for piece in cut_into_words(text, words))
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS + BYTE_TOKENS,
        initial_alphabet=[],
        max_token_length=12,
        show_progress=False,
    )
    # the trainer's own limit_alphabet breaks ties by chance, which a seed does not reach
    tokenizer.train_from_iterator([piece for piece in pieces if known >= set(piece)], trainer)
    return _with_end(_unmark_bytes(tokenizer))


def train_target_tokenizer(corpora: Corpora, vocabulary: int) -> Tokenizer:
    """Learn byte-level pieces of English; ``decode`` alone gives the sentence back."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        # Digit by digit, so that a number is copied and not learned.
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(True)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=SPECIAL_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [pair.en for pair in corpora.sentences] * 3
    texts += [pair.en for pair in corpora.documentation + corpora.everyday[:5000]]
    tokenizer.train_from_iterator(texts, trainer)
    return _with_end(tokenizer)


def cut_into_words(text: str, words: set[str]) -> Iterator[str]:
    """Cut Chinese runs into their longest dictionary words from the left; other runs stay whole."""
    for run in re.findall(r"[\u4e00-\u9fff]+|[^\u4e00-\u9fff]+", text):
        start = 0 if "\u4e00" <= run[0] <= "\u9fff" else len(run)
        if start:
            yield run
        while start < len(run):
            lengths = range(LONGEST_WORD, 1, -1)
            length = next((n for n in lengths if run[start : start + n] in words), 1)
            yield run[start : start + length]
            start += length


def _characters_seen_twice(texts: Iterable[str]) -> set[str]:
    counts = Counter(c for text in texts for c in unicodedata.normalize("NFKC", text))
    return {character for character, count in counts.items() if count > 1}


def _unmark_bytes(tokenizer: Tokenizer) -> Tokenizer:
    """Make special tokens ordinary vocabulary, so that no text of a caller can spell one."""
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = []
    return Tokenizer.from_str(json.dumps(state))


def _with_end(tokenizer: Tokenizer) -> Tokenizer:
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return tokenizer


@dataclass(frozen=True, slots=True)
class TokenPair:
    """Token ids of a pair, both sides ending in ``</s>``."""

    source: list[int]
    target: list[int]


def tokenize_pairs(
    pairs: Sequence[Pair], source: Tokenizer, target: Tokenizer, dropout: float
) -> list[TokenPair]:
    """Token ids of the pairs; ``dropout`` skips merges at random (BPE-dropout)."""
    source.model.dropout = target.model.dropout = dropout or None
    sources = source.encode_batch_fast([pair.zh for pair in pairs])
    targets = target.encode_batch_fast([pair.en for pair in pairs])
    source.model.dropout = target.model.dropout = None
    return [TokenPair(s.ids, t.ids) for s, t in zip(sources, targets, strict=True)]


@dataclass(frozen=True, slots=True)
class Shares:
    """How many random pairs of a corpus an epoch has in addition to all sentences."""

    documentation: int = 2500
    lexicon: int = 2500
    everyday: int = 3000
    back_translated: int = 15000


def sample_epoch(corpora: Corpora, shares: Shares, seed: int) -> list[Pair]:
    """Return the pairs of an epoch: all sentences, all phrases, random pairs of other corpora.

    One sentence in ten loses its final punctuation in Chinese, as people type it.
    """
    rng = random.Random(seed)

    def some(pairs: Sequence[Pair], count: int) -> list[Pair]:
        return rng.sample(pairs, min(count, len(pairs)))

    spoken = (
        corpora.sentences + corpora.phrases * _PHRASES + some(corpora.everyday, shares.everyday)
    )
    return [
        *(Pair(p.zh.rstrip(_ENDS), p.en) if rng.random() < _BARE else p for p in spoken),
        *some(corpora.documentation, shares.documentation),
        *some(corpora.lexicon, shares.lexicon),
        *some(corpora.back_translated, shares.back_translated),
    ]


def batches_of_tokens(
    pairs: Sequence[TokenPair], tokens: int, longest: int, seed: int
) -> list[list[TokenPair]]:
    """Batches of at most ``tokens`` padded tokens a side, of like lengths, in random order.

    Pairs with a side longer than ``longest`` are left out.
    """
    rng = random.Random(seed)
    fitting = [p for p in pairs if max(len(p.source), len(p.target)) <= longest]
    fitting.sort(key=lambda p: (len(p.target), len(p.source) + rng.random()))
    batches: list[list[TokenPair]] = []
    widest = 0
    for pair in fitting:
        widest = max(widest, len(pair.source), len(pair.target))
        if batches and (len(batches[-1]) + 1) * widest <= tokens:
            batches[-1].append(pair)
        else:
            batches.append([pair])
            widest = max(len(pair.source), len(pair.target))
    rng.shuffle(batches)
    return batches
