"""Real texts of mixed length, and a tokenizer of their words."""

import random
from collections.abc import Sequence
from pathlib import Path

from tokenizers import Tokenizer
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from tokenizers.trainers import WordPieceTrainer

DATA = Path(__file__).with_name("data")
PAD = 0

_JOINED = {1: 0.60, 2: 0.18, 3: 0.09, 4: 0.06, 5: 0.04, 6: 0.03}
"""Share of texts by number of consecutive headlines."""

_SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
_WORDS = 3_000


def headlines() -> Sequence[str]:
    """Return 500 English news headlines."""
    return (DATA / "headlines.txt").read_text(encoding="utf-8").splitlines()


def sentences_zh() -> Sequence[str]:
    """Return 200 Chinese sentences."""
    lines = (DATA / "sentences_zh.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[0] for line in lines]


def photos() -> Sequence[bytes]:
    """Return 8 JPEG files."""
    return [path.read_bytes() for path in sorted((DATA / "photos").glob("*.jpg"))]


def mixed_texts(count: int, seed: int = 0) -> Sequence[str]:
    """Return texts of one headline (three of five) to six, as in `_JOINED`.

    A headline alone has 5 to 30 tokens; joined ones stand for the teasers and short articles
    that a news classifier also gets, up to about 120 tokens.
    """
    draw = random.Random(seed)
    known = headlines()
    counts = draw.choices(list(_JOINED), list(_JOINED.values()), k=count)
    return [". ".join(draw.choices(known, k=number)) for number in counts]


def word_pieces(texts: Sequence[str]) -> Tokenizer:
    """Return a tokenizer as BERT's, of the pieces of these texts."""
    tokenizer = Tokenizer(WordPiece(unk_token=_SPECIAL[1]))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    trainer = WordPieceTrainer(
        vocab_size=_WORDS, special_tokens=_SPECIAL, min_frequency=2, show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    begin, end = (tokenizer.token_to_id(token) for token in ("[CLS]", "[SEP]"))
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", begin), ("[SEP]", end)]
    )
    return tokenizer
