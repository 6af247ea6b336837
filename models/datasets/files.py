"""Reading the public data sets, and training tokenizers on them."""

import gzip
import json
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
PAD_ID, MASK_ID = 0, 4  # their numbers in every tokenizer trained here


@dataclass(frozen=True, slots=True)
class Pair:
    """A Chinese sentence and an English translation of it."""

    zh: str
    en: str


def data_folder(root: Path, name: str) -> Path:
    """Return the folder of one data set under the `--data` directory.

    Raises:
        FileNotFoundError: if it is not there; the message names the folder.
    """
    folder = root / name
    if not folder.is_dir():
        raise FileNotFoundError(f"data set {name!r} is missing: there is no folder {folder}")
    return folder


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a `.jsonl` or `.jsonl.gz` file, one object a line; empty lines are skipped."""
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in content.splitlines() if line.strip()]


def read_images(archive: Path) -> Iterator[tuple[str, Image.Image]]:
    """Yield (file name without suffix, decoded image) of every PNG in a tar file, in its order."""
    with tarfile.open(archive) as tar:
        for member in tar:
            stream = tar.extractfile(member)
            if stream is None or not member.name.endswith(".png"):
                continue
            image = Image.open(BytesIO(stream.read()))
            image.load()
            yield Path(member.name).stem, image


def train_wordpiece(
    texts: Iterable[str], *, vocabulary_size: int, lowercase: bool = True
) -> Tokenizer:
    """Train a BERT-like WordPiece tokenizer: `[PAD]` is 0, texts are wrapped in `[CLS]`, `[SEP]`.

    Chinese characters are always tokens of their own. The returned tokenizer neither pads
    nor truncates.
    """
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))  # noqa: S106 - no secret
    tokenizer.normalizer = normalizers.Sequence(
        [
            normalizers.NFKC(),
            normalizers.BertNormalizer(
                clean_text=True,
                handle_chinese_chars=True,
                strip_accents=lowercase,
                lowercase=lowercase,
            ),
        ]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(
        vocab_size=vocabulary_size, special_tokens=list(SPECIAL_TOKENS), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        special_tokens=[(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")],
    )
    return tokenizer


def pad_rows(rows: Sequence[Sequence[int]], pad_id: int) -> tuple[np.ndarray, np.ndarray]:
    """Return `input_ids` and `attention_mask`, both int64 [len(rows), longest row]."""
    longest = max(len(row) for row in rows)
    input_ids = np.full((len(rows), longest), pad_id, dtype=np.int64)
    attention_mask = np.zeros((len(rows), longest), dtype=np.int64)
    for index, row in enumerate(rows):
        input_ids[index, : len(row)] = row
        attention_mask[index, : len(row)] = 1
    return input_ids, attention_mask


def batches_by_length(
    lengths: Sequence[int], batch_size: int, generator: np.random.Generator
) -> list[np.ndarray]:
    """Split one epoch into batches of similar length, in random order.

    Rows are shuffled, sorted inside windows of 50 batches and cut, so little is padded and
    batches still differ between epochs. Every row occurs exactly once.
    """
    order = generator.permutation(len(lengths))
    window = 50 * batch_size
    batches: list[np.ndarray] = []
    for start in range(0, len(order), window):
        part = order[start : start + window]
        part = part[np.argsort([lengths[row] for row in part], kind="stable")]
        batches += [part[at : at + batch_size] for at in range(0, len(part), batch_size)]
    generator.shuffle(batches)
    return batches
