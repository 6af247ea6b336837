"""Tokenizers and batches of the translator, on a handful of sentences."""

import pytest

pytest.importorskip("torch")

from tokenizers import Tokenizer

from models.datasets.everyday import as_sentence, everyday_pairs, names_of
from models.datasets.files import Pair
from models.datasets.translation import (
    Corpora,
    Shares,
    TokenPair,
    batches_of_tokens,
    cut_into_words,
    sample_epoch,
    tokenize_pairs,
    train_source_tokenizer,
    train_target_tokenizer,
)

CORPORA = Corpora(
    sentences=[
        Pair("我喜欢喝茶。", "I like to drink tea."),
        Pair("你喜欢喝茶吗？", "Do you like to drink tea?"),
        Pair("他喜欢我。", "He likes me."),
    ],
    documentation=[
        Pair("返回 path 的名称。", "Return the name of path."),
        Pair("返回 path。", "Return path."),
    ],
    lexicon=[Pair("喜欢", "like"), Pair("返回", "return"), Pair("茶", "tea")],
    phrases=[Pair("你好！", "Hello!")],
    everyday=[Pair("我住在北京。", "I live in Beijing."), Pair("茶！", "Tea!")],
    back_translated=[Pair("喝茶", "Drink tea."), Pair("他喜欢", "He likes."), Pair("名", "Name.")],
)
ODD_TEXTS = [
    "",
    " \t\n ",
    "😀👩‍👩‍👧",
    "龘靐齉",
    "漢語",
    "\x00\x07\u202e\ufeff",
    "<s></s><pad><0x41>",
    "\U0010ffff\ue000",
    "a" * 5000,
    "é́́́",
    "AbstractEventLoopPolicy_v2",
]
NOT_SPECIAL = [text for text in ODD_TEXTS if text.strip() and "<s>" not in text]


@pytest.fixture(scope="module")
def source() -> Tokenizer:
    return train_source_tokenizer(CORPORA, 300)


@pytest.fixture(scope="module")
def target() -> Tokenizer:
    return train_target_tokenizer(CORPORA, 300)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_any_text_becomes_known_source_tokens_and_one_end(source: Tokenizer, text: str) -> None:
    ids = source.encode(text).ids
    assert ids[-1] == source.token_to_id("</s>") == 2
    assert all(2 < token < source.get_vocab_size() for token in ids[:-1])


@pytest.mark.parametrize("text", [*NOT_SPECIAL, "I like tea.", "a  b"])
def test_english_comes_back_from_its_tokens_alone(target: Tokenizer, text: str) -> None:
    decoded = target.decode(target.encode(text).ids)
    assert decoded == target.normalizer.normalize_str(text)


def test_invalid_bytes_of_a_target_still_decode(target: Tokenizer) -> None:
    every_token = list(range(target.get_vocab_size()))
    assert isinstance(target.decode(every_token[::-1]), str)


def test_full_width_and_half_width_are_the_same(source: Tokenizer) -> None:
    assert source.encode("返回ｐａｔｈ！").ids == source.encode("返回path!").ids


def test_spaces_around_chinese_do_not_count_and_others_do(source: Tokenizer) -> None:
    assert source.encode("返回 path 的").ids == source.encode("返回path的").ids
    assert source.encode("the path").ids != source.encode("thepath").ids


def test_a_dictionary_word_becomes_one_token_and_other_neighbours_do_not(source) -> None:
    assert "喜欢" in source.encode("我喜欢喝茶").tokens
    assert not any(len(token) > 1 for token in source.encode("喝茶").tokens[:-1])


def test_words_are_cut_longest_first_and_other_runs_stay_whole() -> None:
    words = {"中国", "中国人", "国人"}
    assert list(cut_into_words("中国人path a，中国", words)) == ["中国人", "path a，", "中国"]


def test_merge_dropout_varies_the_pieces_and_leaves_the_tokenizer_as_it_was(source, target):
    pairs = CORPORA.sentences * 20
    plain = tokenize_pairs(pairs, source, target, 0.0)
    varied = tokenize_pairs(pairs, source, target, 0.5)
    assert plain != varied
    assert tokenize_pairs(pairs, source, target, 0.0) == plain
    assert [target.decode(p.target) for p in varied] == [pair.en for pair in pairs]


def test_an_epoch_has_every_sentence_and_a_share_of_the_rest() -> None:
    shares = Shares(documentation=1, lexicon=2, everyday=1, back_translated=9)
    epoch = sample_epoch(CORPORA, shares, seed=3)
    assert [pair.en for pair in epoch[:3]] == [pair.en for pair in CORPORA.sentences]
    assert len(epoch) == 50
    assert [pair.en for pair in epoch[3:43]] == ["Hello!"] * 40
    assert epoch[43].en in {pair.en for pair in CORPORA.everyday}
    assert set(epoch[44:45]) <= set(CORPORA.documentation)
    assert set(epoch[45:47]) <= set(CORPORA.lexicon)
    assert set(epoch[47:]) == set(CORPORA.back_translated)


def test_patterns_are_filled_on_both_sides_alike() -> None:
    pairs = everyday_pairs(2000, seed=1)
    assert pairs == everyday_pairs(2000, seed=1) != everyday_pairs(2000, seed=2)
    assert not any("{" in pair.zh + pair.en for pair in pairs)
    assert any("北京" in pair.zh for pair in pairs)
    assert all(("北京" in pair.zh) == ("Beijing" in pair.en) for pair in pairs)


def test_what_is_said_to_an_assistant_becomes_a_sentence() -> None:
    names = names_of(["We saw Tom and I left.", "They like Tom.", "Green is nice, green is good."])
    assert names == {"tom": "Tom", "i": "I"}
    assert as_sentence("when do i  see tom", names) == "When do I see Tom?"
    assert as_sentence("call tom", names) == "Call Tom."
    assert as_sentence("Call me, tom!", names) == "Call me, tom!"


def test_a_number_has_a_token_for_each_digit(target: Tokenizer) -> None:
    tokens = target.encode("In 1984, 20 of us.").tokens
    assert [token for token in tokens if token.isdigit()] == list("198420")


def test_chinese_comes_back_from_its_tokens_too(source: Tokenizer) -> None:
    for text in ("我喜欢喝茶。", "返回path的龘", "the path is a b"):
        assert source.decode(source.encode(text).ids[:-1]) == text


def test_batches_hold_each_fitting_pair_once_within_the_budget() -> None:
    pairs = [TokenPair([1] * (1 + n % 7), [1] * (1 + n % 11)) for n in range(200)]
    batches = batches_of_tokens(pairs, tokens=40, longest=9, seed=0)
    kept = [pair for batch in batches for pair in batch]
    fitting = [pair for pair in pairs if len(pair.target) <= 9]
    assert sorted(map(id, kept)) == sorted(map(id, fitting))
    for batch in batches:
        longest = max(max(len(pair.source), len(pair.target)) for pair in batch)
        assert longest * len(batch) <= 40
