"""In flight, what a generation config forbids is what transformers' own `generate` forbids."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("onnx")

from service.errors import InferenceError  # noqa: E402
from service.families.translation.search.candidates import SearchRules  # noqa: E402
from service.families.translation.search.decoding import Decoding  # noqa: E402
from service.families.translation.search.rules import TokenBans  # noqa: E402
from tests.exports.models.test_inflight_exactness import (  # noqa: E402
    Pair,
    finished,
    opened,
    source,
)
from tests.sentences import sentence  # noqa: E402

pytestmark = pytest.mark.looptime(False)

LIMIT, LEAST = 24, 18
SENTENCES = 8


@pytest.fixture(scope="module")
def marian(tmp_path_factory: Any) -> Pair:
    folder: Path = tmp_path_factory.mktemp("marian")
    return opened("marian", folder)


def generated(pair: Pair, seed: int, decoding: Decoding, **config: Any) -> list[int]:
    ids = pair.model.generate(
        input_ids=torch.tensor([source(seed)]),
        num_beams=decoding.num_beams,
        length_penalty=decoding.length_penalty,
        max_new_tokens=decoding.max_new_tokens,
        min_new_tokens=decoding.min_new_tokens,
        do_sample=False,
        **config,
    )[0, 1:].tolist()
    return list(ids[: ids.index(2)] if 2 in ids else ids)


def compare(pair: Pair, rules: SearchRules, decoding: Decoding, **config: Any) -> int:
    """Hold sentences to transformers; return how many the rules have changed."""
    sentences = {key: (key, decoding) for key in range(SENTENCES)}
    free = finished(pair, sentences)
    for key, found in finished(replace(pair, rules=rules), sentences).items():
        assert found[0].ids.tolist() == generated(pair, key, decoding, **config)
        free[key] = free[key] if free[key][0].ids.tolist() != found[0].ids.tolist() else []
    return sum(map(bool, free.values()))


@pytest.mark.parametrize("num_beams", [1, 4])
@pytest.mark.parametrize("size", [1, 2, 3])
def test_no_ngram_is_written_twice(marian: Pair, size: int, num_beams: int) -> None:
    rules = replace(marian.rules, bans=TokenBans(no_repeat_ngram_size=size))
    decoding = Decoding(num_beams, 1.0, LIMIT, LEAST)
    assert compare(marian, rules, decoding, no_repeat_ngram_size=size)


@pytest.mark.parametrize("num_beams", [1, 3])
def test_bad_words_are_not_written(marian: Pair, num_beams: int) -> None:
    decoding = Decoding(num_beams, 1.0, LIMIT, LEAST)
    usual = finished(marian, {key: (key, decoding) for key in range(SENTENCES)})
    said = [found[0].ids.tolist() for found in usual.values()]
    words = [[1], [said[0][0]], said[1][:2], said[2][1:4], [2, *said[3][:1]]]
    rules = replace(marian.rules, bans=TokenBans(bad_words=tuple(map(tuple, words))))
    assert compare(marian, rules, decoding, bad_words_ids=words)


@pytest.mark.parametrize("penalty", [1.5, 2.0, 4.0])
def test_what_was_written_before_is_less_probable(marian: Pair, penalty: float) -> None:
    rules = replace(marian.rules, repetition_penalty=penalty)
    for decoding in [Decoding(beams, 1.0, LIMIT, LEAST) for beams in (1, 2, 4)]:
        assert compare(marian, rules, decoding, repetition_penalty=penalty)


def test_all_rules_hold_at_once(marian: Pair) -> None:
    bans = TokenBans(2, ((1,), (7,), (9, 9)), suppressed=(11,))
    rules = replace(marian.rules, bans=bans, repetition_penalty=1.2, forced_last_id=2)
    assert compare(
        marian,
        rules,
        Decoding(4, 1.0, 10),
        no_repeat_ngram_size=2,
        bad_words_ids=[[1], [7], [9, 9]],
        suppress_tokens=[11],
        repetition_penalty=1.2,
        forced_eos_token_id=2,
    )


def test_a_penalty_that_encourages_is_refused(marian: Pair) -> None:
    with pytest.raises(ValueError, check=sentence):
        replace(marian.rules, repetition_penalty=0.9)


class Unscored:
    """A step graph as they were before they gave scores."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    @property
    def outputs(self) -> dict[str, Any]:
        return {name: spec for name, spec in self._session.outputs.items() if name != "scores"}


def test_a_graph_without_scores_serves_what_needs_none_and_says_so_else(marian: Pair) -> None:
    sessions = {**marian.sessions, "step": Unscored(marian.sessions["step"])}
    old, greedy = replace(marian, sessions=sessions), Decoding(1, 1.0, LIMIT)
    penalised = replace(old, rules=replace(old.rules, repetition_penalty=1.5))
    sentences = {0: (0, greedy)}
    assert finished(old, sentences)[0][0].ids.size == finished(marian, sentences)[0][0].ids.size
    with pytest.raises(InferenceError, check=sentence):
        finished(penalised, sentences)
    assert finished(penalised, {0: (0, greedy._replace(num_beams=2))})
