"""Small tokenizers of every kind, as transformers saves them, and texts to ask."""

import json
from pathlib import Path
from typing import Any

import transformers
from sentencepiece import SentencePieceTrainer
from tokenizers import ByteLevelBPETokenizer

LABELS = ["entailment", "neutral", "contradiction"]

TEXTS = [
    "A man eats an apple.",
    "Straße, Ünïcödé — naïve café!",
    "汤姆昨天没有去学校。他今天去了。",
    "so good 👍🏽 👩‍👩‍👧 🇨🇭 indeed",
    "broken \ud800 text",
    "x",
    "the apple of the man is 12,345 and so on, " * 40,
    "  spaces   and\ttabs\nand lines  ",
    "[CLS] </s> <mask> [SEP] spelt out",
]

CORPUS = [
    "A man eats an apple while somebody reads the newspaper, as every day.",
    "The apple of the man is 12,345 and so on; nobody knows why it is so good.",
    "Straße, Ünïcödé, naïve café: words that not every vocabulary holds.",
    "汤姆昨天没有去学校。他今天去了。",
    "spaces and tabs and lines, spelt out, indeed",
] * 3


def tokenizer_for(kind: str, folder: Path) -> Any:
    """Make a tokenizer of transformers' class for this kind of model, from a small vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    match kind:
        case "bert" | "distilbert":
            letters = sorted(set("".join(CORPUS).lower()) - {" "})
            words = sorted({word for line in CORPUS for word in line.lower().split()})
            special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
            pieces = [*special, *letters, *(f"##{one}" for one in letters), *words]
            path = folder / "vocab.txt"
            path.write_text("\n".join(dict.fromkeys(pieces)) + "\n", encoding="utf-8")
            name = "BertTokenizerFast" if kind == "bert" else "DistilBertTokenizerFast"
            return getattr(transformers, name)(str(path), model_max_length=64)
        case "roberta" | "deberta":
            trained = ByteLevelBPETokenizer()
            special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
            if kind == "deberta":
                special = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]"]
            trained.train_from_iterator(CORPUS, 400, special_tokens=special, show_progress=False)
            trained.save_model(str(folder))
            name = "RobertaTokenizerFast" if kind == "roberta" else "DebertaTokenizerFast"
            files = (str(folder / "vocab.json"), str(folder / "merges.txt"))
            return getattr(transformers, name)(*files, model_max_length=64)
        case _:
            return _sentencepiece(kind, folder)


def without_tokenizer_json(folder: Path) -> Path:
    """Leave only the older files, as directories of slow tokenizers have them."""
    (folder / "tokenizer.json").unlink()
    return folder


def _sentencepiece(kind: str, folder: Path) -> Any:
    ids = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
    pieces: dict[str, Any] = {}
    if kind in ("albert", "deberta-v2"):
        ids = {"pad_id": 0, "unk_id": 1, "bos_id": 2, "eos_id": 3}
        pieces = {"pad_piece": "<pad>" if kind == "albert" else "[PAD]"}
        pieces |= {"unk_piece": "<unk>" if kind == "albert" else "[UNK]"}
        pieces |= {"bos_piece": "[CLS]", "eos_piece": "[SEP]"}
    if kind == "albert":
        pieces["control_symbols"] = ["[MASK]"]
    (folder / "corpus.txt").write_text("\n".join(CORPUS), encoding="utf-8")
    SentencePieceTrainer.train(
        input=str(folder / "corpus.txt"),
        model_prefix=str(folder / "spm"),
        vocab_size=120,
        hard_vocab_limit=False,
        minloglevel=2,
        **ids,
        **pieces,
    )
    name = {"albert": "Albert", "deberta-v2": "DebertaV2", "xlm-roberta": "XLMRoberta"}[kind]
    slow = getattr(transformers, f"{name}Tokenizer")(str(folder / "spm.model"))
    slow.model_max_length = 64
    slow.save_pretrained(folder / "slow")
    fast = getattr(transformers, f"{name}TokenizerFast")
    return fast.from_pretrained(folder / "slow", model_max_length=64)


def config_of(folder: Path) -> dict[str, Any]:
    """Return the tokenizer's configuration."""
    table: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_text())
    return table
