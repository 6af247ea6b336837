"""Texts become token ids, whatever is in them."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from tokenizers import Tokenizer, normalizers, processors

from service.errors import InvalidInputError, ModelLoadError
from service.transforms.language.text import TextTokenizer, pad_rows
from tests.unit.transforms.texts import CLS, HOSTILE, SEP, WORDS, byte_tokenizer, word_tokenizer


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("tokenizer", [word_tokenizer(), byte_tokenizer()], ids=["words", "bytes"])
def test_hostile_texts_become_tokens_within_the_limit(tokenizer: Tokenizer, text: str) -> None:
    ids, _ = TextTokenizer(tokenizer).encode(text, 16)
    assert ids.dtype == np.int64
    assert 1 <= ids.size <= 16
    assert ids.min() >= 0
    assert ids.max() < tokenizer.get_vocab_size()


@given(st.text(st.characters(codec=None), max_size=200), st.integers(3, 40))
def test_no_text_at_all_gives_another_error_or_too_many_tokens(text: str, limit: int) -> None:
    tokenizer = TextTokenizer(byte_tokenizer())
    if not text or text.isspace():
        with pytest.raises(InvalidInputError, match="empty"):
            tokenizer.encode(text, limit)
    else:
        ids, cut = tokenizer.encode(text, limit)
        valid = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
        assert cut == (len(valid.encode()) > limit)
        assert ids.size == min(limit, len(valid.encode()))


@given(st.lists(st.sampled_from([*WORDS[4:8], "else"]), min_size=1, max_size=20))
def test_ids_equal_those_of_the_library(words: list[str]) -> None:
    text = " ".join(words)
    ids, cut = TextTokenizer(word_tokenizer()).encode(text, 100)
    assert ids.tolist() == word_tokenizer().encode(text).ids
    assert not cut


def test_lone_surrogates_read_as_the_replacement_character() -> None:
    tokenizer = TextTokenizer(word_tokenizer())
    assert_array_equal(tokenizer.encode("\ud800 one", 8)[0], tokenizer.encode("\ufffd one", 8)[0])
    halves, whole = "\ud83d\ude00", "\U0001f600"
    tokenizer = TextTokenizer(byte_tokenizer())
    assert_array_equal(tokenizer.encode(halves, 8)[0], tokenizer.encode(whole, 8)[0])


def test_a_text_that_is_too_long_keeps_its_special_tokens() -> None:
    tokenizer = TextTokenizer(word_tokenizer())
    ids, cut = tokenizer.encode("one two three four", 4)
    assert_array_equal(ids, [CLS, 4, 5, SEP])
    assert cut
    ids, cut = tokenizer.encode("one two", 4)
    assert_array_equal(ids, [CLS, 4, 5, SEP])
    assert not cut


@pytest.mark.parametrize("text", ["", " ", "\n\t", "\u3000\u00a0"])
def test_a_blank_text_is_refused(text: str) -> None:
    for tokenizer in (word_tokenizer(), byte_tokenizer()):
        with pytest.raises(InvalidInputError, match="empty"):
            TextTokenizer(tokenizer).encode(text, 8)


def test_a_text_of_which_nothing_is_left_is_refused() -> None:
    tokenizer = word_tokenizer()
    tokenizer.normalizer = normalizers.Replace("x", "")
    with pytest.raises(InvalidInputError, match="nothing"):
        TextTokenizer(tokenizer).encode("xxx", 8)


def test_settings_in_the_file_for_training_do_not_count(tmp_path: Path) -> None:
    tokenizer = word_tokenizer()
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=20)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    read = TextTokenizer.open(tmp_path / "tokenizer.json")
    assert read.encode("one two three", 64)[0].tolist() == [CLS, 4, 5, 6, SEP]
    assert read.special_tokens == 2


def test_decoding_leaves_special_tokens_out() -> None:
    assert TextTokenizer(word_tokenizer()).decode(np.array([CLS, 4, 5, SEP])) == "one two"


def test_ids_and_text_survive_the_round_trip() -> None:
    tokenizer = TextTokenizer(byte_tokenizer())
    text = "naïve 你好 🙂\n"
    assert tokenizer.decode(tokenizer.encode(text, 100)[0]) == text


@pytest.mark.parametrize("content", [b"", b"junk", b"{}", b"\xff\xfe", json.dumps([1]).encode()])
def test_what_is_no_tokenizer_does_not_load(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json"):
        TextTokenizer.open(tmp_path / "tokenizer.json")


def test_a_missing_tokenizer_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json"):
        TextTokenizer.open(tmp_path / "tokenizer.json")


def test_one_tokenizer_serves_many_threads() -> None:
    tokenizer = TextTokenizer(word_tokenizer())
    texts = [" ".join(WORDS[4 : 4 + n % 4 + 1] * (n % 7 + 1)) for n in range(400)]
    limits = [3 + n % 9 for n in range(400)]
    alone = [tokenizer.encode(t, n)[0].tolist() for t, n in zip(texts, limits, strict=True)]
    with ThreadPoolExecutor(8) as threads:
        together = list(threads.map(lambda t, n: tokenizer.encode(t, n)[0].tolist(), texts, limits))
    assert together == alone


def test_the_library_starts_no_threads_of_its_own(tmp_path: Path) -> None:
    word_tokenizer().save(str(tmp_path / "tokenizer.json"))
    script = """
import pathlib, sys, os
from service.transforms.language.text import TextTokenizer
tokenizer = TextTokenizer.open(pathlib.Path(sys.argv[1]))
before = len(os.listdir("/proc/self/task"))
tokenizer.encode("one two three " * 10000, 8)
assert len(os.listdir("/proc/self/task")) == before
"""
    environ = {k: v for k, v in os.environ.items() if k != "TOKENIZERS_PARALLELISM"}
    subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "tokenizer.json")], check=True, env=environ
    )


def test_rows_are_padded_to_the_longest() -> None:
    ids, mask = pad_rows([np.array([5]), np.array([6, 7, 8]), np.array([9, 9])], 4)
    assert_array_equal(ids, [[5, 4, 4], [6, 7, 8], [9, 9, 4]])
    assert_array_equal(mask, [[1, 0, 0], [1, 1, 1], [1, 1, 0]])
    assert ids.dtype == mask.dtype == np.int64


def test_rows_can_be_padded_to_a_multiple() -> None:
    ids, mask = pad_rows([np.array([5]), np.array([6, 7, 8])], 0, multiple=8)
    assert ids.shape == mask.shape == (2, 8)
    assert_array_equal(mask.sum(axis=1), [1, 3])


@pytest.mark.parametrize("length", [2, 3, 8, 40])
def test_a_sample_is_a_row_as_a_text_has_it(length: int) -> None:
    ids = TextTokenizer(word_tokenizer()).sample(length)
    assert len(ids) == length
    assert (ids[0], ids[-1]) == (CLS, SEP)
    assert not {CLS, SEP} & {*ids[1:-1].tolist()}
    assert length == 2 or ids.max() == len(WORDS) - 1


def test_a_single_text_has_the_types_of_its_template() -> None:
    made = word_tokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS]:2 $A:1 [SEP]:0", special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)]
    )
    tokenizer = TextTokenizer(made)
    ids, _ = tokenizer.encode("one two three", 99)
    types = tokenizer.types(len(ids))
    assert types is not None
    assert_array_equal(types, made.encode("one two three").type_ids)
    assert TextTokenizer(word_tokenizer()).types(5) is None
