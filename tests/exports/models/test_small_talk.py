"""Texts that are no headlines: what `news-topics` learns them from, and what it says to them."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch", reason='needs the extra "train"')

import torch
from tokenizers import Tokenizer

from models.datasets.near_copies import NearCopies
from models.datasets.news import LABELS
from models.datasets.small_talk import (
    GREETINGS,
    HELD_OUT,
    common_words,
    few_words,
    gibberish,
    read_small_talk,
    with_other_ends,
)
from models.evaluate.classification import NOTHING
from models.starters.news_topics.model import served_model

VERSION = Path("models/repository/news-topics/1")
HELD_OUT_TEXTS = [text for group in HELD_OUT.values() for text in group]


def test_nothing_held_out_is_trained_on(tmp_path: Path):
    read = "set an alarm for two hours from now"
    for name, column in (
        ("clinc150", "text"),
        ("massive_en_zh", "en"),
        ("banking77", "text"),
        ("tatoeba_zh_en", "en"),
    ):
        texts = [read, *(f"{text.upper()} !" for text in HELD_OUT_TEXTS), "a bit different"]
        lines = "".join(json.dumps({column: text}) + "\n" for text in texts)
        (tmp_path / name).mkdir()
        (tmp_path / name / "train.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    talk = read_small_talk(tmp_path)
    assert talk.count(read) == talk.count("a bit different") == 4
    spoken = NearCopies(text for text in HELD_OUT_TEXTS if any(map(str.isalnum, text)))
    assert not [text for text in (*talk, *GREETINGS) if text in spoken]


def test_words_to_train_on_are_common_and_not_held_out():
    talk = [*["The table is green, is it?"] * 5, *["a rare word"] * 4]
    assert common_words(talk) == ["green", "is", "it", "the"]
    texts = few_words(["green", "it"], 200, np.random.default_rng(0))
    assert {len(text.split()) for text in texts} == {1, 2, 3}
    assert {word for text in texts for word in text.split()} == {"green", "it"}


def test_only_the_ends_of_texts_change():
    texts = ["What is it?", "go home", "...", "Dr. No."] * 50
    changed = with_other_ends(texts, np.random.default_rng(0))
    assert [text.rstrip(" .!?") for text in changed] == [text.rstrip(" .!?") for text in texts]
    assert {"What is it?", "What is it", "What is it!", "go home", "go home."} <= set(changed)
    assert changed[2::4] == ["..."] * 50


def test_gibberish_is_never_empty_and_of_many_kinds():
    texts = gibberish(500, np.random.default_rng(0))
    assert all(1 <= len(text.split()) <= 5 for text in texts)
    assert len(set(texts)) > 450
    for kind in (str.isdigit, str.isascii, str.isalpha):
        assert any(map(kind, texts))
        assert not all(map(kind, texts))
    assert texts == gibberish(500, np.random.default_rng(0))


@pytest.fixture(scope="module")
def best_score():
    """Return the starter's best label of a text, and its score."""
    model = served_model(VERSION)
    tokenizer = Tokenizer.from_file(str(VERSION / "tokenizer.json"))

    @torch.no_grad()
    def best(text: str) -> tuple[str, float]:
        ids = torch.tensor([tokenizer.encode(text).ids])
        score, label = model(ids, torch.ones_like(ids))[0].softmax(0).max(0)
        return LABELS[int(label)], float(score)

    return best


def test_the_starter_has_no_topic_for_greetings_and_hardly_one_for_what_is_held_out(best_score):
    greeted = {text: best_score(text) for text in GREETINGS}
    assert {text: best for text, best in greeted.items() if best[1] >= NOTHING} == {}
    wrong = [text for text in HELD_OUT_TEXTS if best_score(text)[1] >= NOTHING]
    assert len(wrong) <= len(HELD_OUT_TEXTS) // 20, wrong


@pytest.mark.parametrize(
    ("headline", "topic"),
    [
        ("Stocks fall as oil prices slide", "business"),
        ("New telescope finds a planet much like Earth", "science_technology"),
        ("Singer wins three awards for her first album", "entertainment"),
        ("Doctors warn of early flu season", "health"),
        ("Comet seen from orbit", "science_technology"),
    ],
)
def test_the_starter_has_a_topic_for_the_headlines_of_page_and_documents(
    best_score, headline: str, topic: str
):
    label, score = best_score(headline)
    assert (label, score > 0.6) == (topic, True)
