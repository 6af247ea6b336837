"""Companion files of a tokenizer.json, drawn at random, against transformers."""

import json
import random
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason='needs the extra "train"')

import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from service.transforms.language.text import TextTokenizer
from tests.exports.text_files import CORPUS, tokenizer_for

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own

TEXTS = [
    "Größe of a <URL> Test",
    "HELLO Wörld ÀÉÎÕÜ İstanbul <URL>.",
    "  two  spaces, newword anewwordb NEWWORD",
    "汤姆昨天没有去学校。 [MASK] <mask> x <extra> y",
    "</s> <s> spelt out [SEP]",
    "x",
]


def _byte_level(folder: Path, special: list[str]) -> Tokenizer:
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=330, special_tokens=special, initial_alphabet=alphabet)
    made.train_from_iterator(CORPUS, trainer)
    return made


def _llama(folder: Path) -> Any:
    made = _byte_level(folder, ["<unk>", "<s>", "</s>"])
    return transformers.LlamaTokenizerFast(tokenizer_object=made, add_eos_token=False)


def _gpt2(folder: Path) -> Any:
    made = _byte_level(folder, ["<|endoftext|>"])
    return transformers.GPT2TokenizerFast(tokenizer_object=made)


def _plain(folder: Path) -> Any:
    made = _byte_level(folder, ["<s>", "</s>", "<pad>", "<unk>"])
    ends = [("</s>", made.token_to_id("</s>"))]
    made.post_processor = processors.TemplateProcessing(single="$A:1 </s>:2", special_tokens=ends)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=made, eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


def _mpnet(folder: Path) -> Any:
    bert = tokenizer_for("bert", folder)
    return transformers.MPNetTokenizerFast(
        tokenizer_object=bert.backend_tokenizer, unk_token="[UNK]", pad_token="[PAD]",
        bos_token="[CLS]", eos_token="[SEP]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]",
    )  # fmt: skip


KINDS: Mapping[str, Callable[[Path], Any]] = {
    "bert": lambda folder: tokenizer_for("bert", folder),
    "distilbert": lambda folder: tokenizer_for("distilbert", folder),
    "roberta": lambda folder: tokenizer_for("roberta", folder),
    "xlm-roberta": lambda folder: tokenizer_for("xlm-roberta", folder),
    "mpnet": _mpnet,
    "llama": _llama,
    "gpt2": _gpt2,
    "plain": _plain,
}


def drawn(dice: random.Random) -> dict[str, Any]:
    """Draw what is changed of a tokenizer_config.json; None takes the key out."""
    flags = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    choices: dict[str, list[Any]] = {
        "do_lower_case": [True, False, None],
        "strip_accents": [True, False, None],
        "tokenize_chinese_chars": [True, False, None],
        "add_prefix_space": [True, False],
        "add_bos_token": [True, False],
        "add_eos_token": [True, False],
        "split_special_tokens": [True, False],
        "additional_special_tokens": [["<URL>"], ["<extra>", "newword"]],
        "mask_token": ["<URL>", "[MASK]"],
        "added": [
            {"content": "<URL>", "special": False, **flags, "normalized": True},
            {"content": "newword", "special": False, **flags, "single_word": True},
            {"content": "<extra>", "special": True, **flags, "lstrip": True, "rstrip": True},
        ],
    }
    return {key: dice.choice(choices[key]) for key in dice.sample(sorted(choices), 4)}


def changed(path: Path, tokens: int, changes: Mapping[str, Any]) -> None:
    table = json.loads(path.read_text())
    for key, value in changes.items():
        if key == "added":
            table.setdefault("added_tokens_decoder", {})[str(tokens)] = value
        elif value is None:
            table.pop(key, None)
        else:
            table[key] = value
    path.write_text(json.dumps(table))


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_those_of_transformers_whatever_is_beside(kind: str, tmp_path: Path) -> None:
    made = KINDS[kind](tmp_path / "vocabulary")
    answers = set()
    for seed in range(30):
        folder = tmp_path / str(seed)
        made.save_pretrained(folder)
        dice = random.Random(f"{kind}{seed}")
        changes = drawn(dice)
        if kind == "llama":  # makes it from a SentencePiece model, which is not there
            changes.pop("add_prefix_space", None)
        changed(folder / "tokenizer_config.json", len(made), changes)
        if dice.random() < 0.2:  # as folders were before there was added_tokens_decoder
            changed(folder / "tokenizer_config.json", 0, {"added_tokens_decoder": None})
        theirs = transformers.AutoTokenizer.from_pretrained(folder)
        ours = TextTokenizer.open(folder / "tokenizer.json")
        for text in TEXTS:
            wanted = theirs(text, return_token_type_ids=True)
            ids = ours.encode(text, 10**6)[0].tolist()
            assert ids == wanted.input_ids, (seed, changes, text)
            types = ours.types(len(ids))
            assert (wanted.token_type_ids if types is None else types.tolist()) == (
                wanted.token_type_ids
            )
            assert types is not None or not any(wanted.token_type_ids)
            answers.add(tuple(ids))
    assert len(answers) > len(TEXTS), "nothing that was drawn has changed anything"
