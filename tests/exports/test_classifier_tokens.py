"""Tokens of classifiers' older files, without a tokenizer.json, against transformers."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers", reason='needs the extra "train"')

import transformers
from sentencepiece import SentencePieceTrainer

from service.errors import ModelLoadError
from service.repository.layouts.exports import read_export
from service.repository.layouts.facts import Fact
from service.repository.layouts.tokens import text_facts, tokenizer_facts
from service.transforms.language.text import TextTokenizer, valid_text
from tests.exports.text_files import CORPUS, TEXTS, tokenizer_for
from tests.sentences import sentence

pytestmark = pytest.mark.filterwarnings("ignore")  # transformers' own

MORE = [
    *TEXTS,
    "HELLO wörld ÀÉÎÕÜ İstanbul",
    "don't we've it's ... ?!",
    "汤姆 昨天没有去学校，他今天去了。日本語テキスト한국어",
    "😀👍🏽🏳️‍🌈",
    "a\u0301 ﬁ ½ \u200b\ufeff\u00ad ＡＢＣ １２ ㍿",
    "\ud83d broken \udc00",
    "\x00\x07control\x7f\u0085\u2028 \ufffd",
    "<s> <pad></s>x<mask> y",
    "[MASK] [UNK][PAD] [CLS]x [SEP]  [mask]",
    "x [MASK] y  <mask>  z",
    "'' `` \"quoted\" ``x''",
    "12,345 9, 1,000,",
    "x" * 150,
    "▁under ▁ score_",
    "\u3000wide\u3000space\u00a0nbsp",
    "𝓜𝓪𝓽𝓱 ⅷ ① ㎏ ไทย हिन्दी عربى",
]

CLASSES = {
    "bert": "Bert",
    "distilbert": "DistilBert",
    "electra": "Electra",
    "roberta": "Roberta",
    "deberta": "Deberta",
    "albert": "Albert",
    "deberta-v2": "DebertaV2",
    "xlm-roberta": "XLMRoberta",
}
SETTINGS: list[tuple[str, dict[str, Any]]] = [
    *((kind, {}) for kind in CLASSES),
    ("bert", {"do_lower_case": False}),
    ("bert", {"do_lower_case": False, "strip_accents": True}),
    ("bert", {"strip_accents": False, "tokenize_chinese_chars": False}),
    ("roberta", {"add_prefix_space": True}),
    ("albert", {"do_lower_case": False, "keep_accents": True}),
    ("deberta-v2", {"do_lower_case": True, "split_by_punct": True}),
]
ALIKE = ("bert", "distilbert", "electra", "roberta", "deberta")
"""Classes whose slow tokenizer agrees on all texts here; of the others ours is the fast one."""


def older_files(kind: str, folder: Path, settings: dict[str, Any]) -> Path:
    """Save a tokenizer as before there was tokenizer.json."""
    made = tokenizer_for("bert" if kind == "electra" else kind, folder / "vocabulary")
    directory = folder / "m"
    made.save_pretrained(directory)
    (directory / "tokenizer.json").unlink()
    change(directory / "tokenizer_config.json", tokenizer_class=f"{CLASSES[kind]}Tokenizer")
    change(directory / "tokenizer_config.json", **settings)
    config = {"model_type": kind, "max_position_embeddings": 512, "pad_token_id": 0}
    (directory / "config.json").write_text(json.dumps(config))
    return directory


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def opened(directory: Path) -> TextTokenizer:
    told = {f.key: f.value for f in text_facts(read_export(directory)) if isinstance(f, Fact)}
    name, kind = told["parameters.tokenizer"], told["parameters.tokenizer_class"]
    return TextTokenizer.open(directory / name, kind)


def compared(kind: str, directory: Path, texts: list[str]) -> None:
    ours = opened(directory)
    fast = getattr(transformers, f"{CLASSES[kind]}TokenizerFast").from_pretrained(directory)
    slow = getattr(transformers, f"{CLASSES[kind]}Tokenizer").from_pretrained(directory)
    for text in texts:
        wanted = fast(valid_text(text)).input_ids
        if len(wanted) > ours.special_tokens:  # else there is nothing that the model reads
            ids = ours.encode(text, 10**6)[0].tolist()
            assert ids == wanted, text
            if kind in ALIKE and not fast.init_kwargs.get("add_prefix_space"):
                assert ids == slow(valid_text(text)).input_ids, text
    for text, pair in pairwise(texts[:5]):
        both = fast(valid_text(text), valid_text(pair), return_token_type_ids=True)
        ids, types = ours.encode_pair(text, pair, 10**6)
        assert [ids.tolist(), types.tolist()] == [both.input_ids, both.token_type_ids]


@pytest.mark.parametrize(("kind", "settings"), SETTINGS, ids=str)
def test_tokens_are_those_of_transformers(
    kind: str, settings: dict[str, Any], tmp_path: Path
) -> None:
    compared(kind, older_files(kind, tmp_path, settings), MORE)


@pytest.mark.parametrize("kind", CLASSES)
def test_so_are_those_of_a_vocabulary_with_nothing_beside_it(kind: str, tmp_path: Path) -> None:
    directory = older_files(kind, tmp_path, {})
    for name in ("tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"):
        (directory / name).unlink(missing_ok=True)
    compared(kind, directory, MORE)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_tokens_that_a_user_added_are_found(kind: str, tmp_path: Path) -> None:
    directory = older_files(kind, tmp_path, {})
    words = ["newword", "<tag>"]
    size = len(opened_vocabulary(directory))
    path = directory / "tokenizer_config.json"
    table = {k: v for k, v in json.loads(path.read_text()).items() if k != "added_tokens_decoder"}
    path.write_text(json.dumps(table))
    numbers = {word: size + index for index, word in enumerate(words)}
    (directory / "added_tokens.json").write_text(json.dumps(numbers))
    compared(kind, directory, ["a newword of a <tag>here", "anewwordb", *MORE])


def test_added_tokens_of_another_vocabulary_are_refused(tmp_path: Path) -> None:
    directory = older_files("bert", tmp_path, {})
    path = directory / "tokenizer_config.json"
    table = {k: v for k, v in json.loads(path.read_text()).items() if k != "added_tokens_decoder"}
    path.write_text(json.dumps(table))
    (directory / "added_tokens.json").write_text(json.dumps({"newword": 30_000}))
    with pytest.raises(ModelLoadError, check=sentence):
        opened(directory)


def opened_vocabulary(directory: Path) -> dict[str, int]:
    path = directory / "vocab.json"
    if path.exists():
        table: dict[str, int] = json.loads(path.read_text())
        return table
    return {word: n for n, word in enumerate((directory / "vocab.txt").read_text().splitlines())}


def test_so_are_those_of_siglip_whose_only_tokenizer_is_a_sentencepiece_model(
    tmp_path: Path,
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("\n".join(CORPUS).lower(), encoding="utf-8")
    SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "spiece"), vocab_size=120, pad_id=0,
        eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False, minloglevel=2,
    )  # fmt: skip
    theirs = transformers.SiglipTokenizer(str(tmp_path / "spiece.model"), model_max_length=64)
    theirs.save_pretrained(tmp_path / "m")
    config = {"model_type": "siglip", "text_config": {}}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    told = {
        f.key: f.value for f in tokenizer_facts(read_export(tmp_path / "m")) if isinstance(f, Fact)
    }
    name, kind = told["parameters.tokenizer"], told["parameters.tokenizer_class"]
    ours = TextTokenizer.open(tmp_path / "m" / name, kind)
    # Not those with special tokens spelt out: what follows them begins with a space here.
    texts = [text for text in MORE if "</s>" not in text and "<unk>" not in text]
    for text in ["it's 12,345!? a - b", "<pad> y", "▁under▁ x", *texts]:
        wanted = theirs(valid_text(text)).input_ids
        if len(wanted) > 1:
            assert ours.encode(text, 10**6)[0].tolist() == wanted, text
