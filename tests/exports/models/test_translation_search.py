"""How the recipe drives the search, on decoders whose answers are written down."""

from collections.abc import Sequence

import numpy as np
import pytest

pytest.importorskip("torch")

from tokenizers import Tokenizer, models

from models.starters.zh_en.model import BOS_ID, EOS_ID
from models.starters.zh_en.search import Tokenizers, search, translate_all
from service.families.translation.search.decoding import Decoding

A, B, C = 3, 4, 5
VOCABULARY = 12


class Script:
    """A decoder that looks the next token's probabilities up by what each row has said."""

    def __init__(self, table: dict[tuple[int, ...], dict[int, float]]) -> None:
        self.table = table
        self.said: list[tuple[int, ...]] = []
        self.sentences: list[int] = []

    def begin(self, rows: Sequence[Sequence[int]]) -> None:
        self.said = [(row[0],) for row in rows]

    def step(self, tokens, beam_idx, sentence_idx):
        self.sentences = sentence_idx.tolist()
        pairs = zip(beam_idx.tolist(), tokens.tolist(), strict=True)
        self.said = [self.said[row] + ((t,) if t != BOS_ID else ()) for row, t in pairs]
        answer = np.full((len(self.said), VOCABULARY), 1e-9)
        for row, said in enumerate(self.said):
            for token, probability in self.table.get(said, {EOS_ID: 1.0}).items():
                answer[row, token] = probability
        return np.log(answer).astype(np.float32)


GARDEN_PATH = {
    (9,): {A: 0.6, B: 0.4},
    (9, A): {EOS_ID: 0.4, C: 0.3, B: 0.3},
    (9, B): {C: 1.0},
    (8,): {C: 0.9, A: 0.1},
}


def test_greedy_search_takes_the_best_token_each_time() -> None:
    assert search(Script(GARDEN_PATH), [[9]], Decoding(1, 1.0, 20)) == [[A]]


def test_beam_search_finds_the_better_sentence_behind_a_worse_start() -> None:
    decoding = Decoding(2, 0.0, 20)
    assert search(Script(GARDEN_PATH), [[9]], decoding) == [[B, C]]


@pytest.mark.parametrize("num_beams", [1, 2, 4])
def test_sentences_of_a_batch_do_not_touch_one_another(num_beams: int) -> None:
    decoding = Decoding(num_beams, 1.0, 20)
    alone = [search(Script(GARDEN_PATH), [[row]], decoding)[0] for row in (8, 9, 8)]
    assert search(Script(GARDEN_PATH), [[8], [9], [8]], decoding) == alone


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_sentence_that_never_ends_is_cut(num_beams: int) -> None:
    endless = Script({(9, *[A] * n): {A: 1.0} for n in range(20)})
    decoding = Decoding(num_beams, 1.0, 7)
    assert search(endless, [[9]], decoding) == [[A] * 7]


def test_an_ended_sentence_leaves_the_batch() -> None:
    decoder = Script({(9,): {A: 1.0}, (9, A): {B: 1.0}, (8,): {EOS_ID: 1.0}})
    assert search(decoder, [[8], [9]], Decoding(1, 1.0, 20)) == [[], [A, B]]
    assert decoder.sentences == [1]


def test_texts_come_back_in_their_order_however_they_were_batched() -> None:
    words = {"<pad>": 0, "<s>": 1, "</s>": 2, "a": A, "b": B, "c": C, "x": 8, "y": 9}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="x"))
    decoder = Script({(9,): {A: 1.0}, (8,): {B: 1.0}})
    found = translate_all(
        decoder, Tokenizers(tokenizer, tokenizer), ["y", "x", "y"], Decoding(1, 1.0, 5), 2
    )
    assert found == ["a", "b", "a"]
