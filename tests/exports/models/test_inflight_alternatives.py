"""In flight, the best translations and their scores are those of transformers' own `generate`."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra train")
pytest.importorskip("transformers", reason="needs the extra train")
pytest.importorskip("onnx")

from service.families.translation.decode_batch import DecodeBatch  # noqa: E402
from service.families.translation.search.decoding import Decoding  # noqa: E402
from service.families.translation.search.repetition import first_round  # noqa: E402
from service.tasks import FinishReason  # noqa: E402
from tests.exports.models.test_inflight_exactness import (  # noqa: E402
    Pair,
    finished,
    newcomers,
    opened,
    source,
)

pytestmark = pytest.mark.looptime(False)

SENTENCES = range(8)


@pytest.fixture(params=["marian", "t5"], scope="module")
def pair(request: Any, tmp_path_factory: Any) -> Pair:
    folder: Path = tmp_path_factory.mktemp(request.param)
    return opened(request.param, folder)


@pytest.fixture(scope="module")
def marian(tmp_path_factory: Any) -> Pair:
    folder: Path = tmp_path_factory.mktemp("marian")
    return opened("marian", folder)


def generated(pair: Pair, seed: int, decoding: Decoding, **config: Any) -> Any:
    """Every hypothesis that `generate` returns, without start and end, and their scores."""
    beams = decoding.num_beams
    said = pair.model.generate(
        input_ids=torch.tensor([source(seed)]),
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=decoding.length_penalty,
        max_new_tokens=decoding.max_new_tokens,
        do_sample=False,
        output_scores=True,
        return_dict_in_generate=True,
        **config,
    )
    rows = [row[1:].tolist() for row in said.sequences]
    scores = said.sequences_scores.tolist() if beams > 1 else None
    return [row[: row.index(2)] if 2 in row else unpadded(row) for row in rows], scores


def unpadded(row: list[int]) -> list[int]:
    while row and row[-1] == 1:
        row = row[:-1]
    return row


@pytest.mark.parametrize(
    "decoding",
    [
        Decoding(4, 1.0, 14),
        Decoding(3, 0.0, 14),
        Decoding(4, 2.0, 6),
        Decoding(2, -1.0, 14),
        Decoding(8, 0.6, 20),
    ],
    ids=str,
)
def test_all_hypotheses_and_their_scores_are_those_of_transformers(
    pair: Pair, decoding: Decoding
) -> None:
    sentences = {key: (key, decoding) for key in SENTENCES}
    for key, found in finished(pair, sentences).items():
        wanted, scores = generated(pair, key, decoding)
        assert [unpadded(one.ids.tolist()) for one in found] == wanted
        np.testing.assert_allclose([one.score for one in found], scores, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("early_stopping", [True, "never"])
def test_they_are_whatever_ends_the_search(marian: Pair, early_stopping: Any) -> None:
    pair = replace(marian, rules=replace(marian.rules, early_stopping=early_stopping))
    decoding = Decoding(4, 1.0, 14)
    for key, found in finished(pair, {key: (key, decoding) for key in SENTENCES}).items():
        wanted, scores = generated(pair, key, decoding, early_stopping=early_stopping)
        assert [one.ids.tolist() for one in found] == wanted
        np.testing.assert_allclose([one.score for one in found], scores, rtol=2e-5, atol=2e-5)


def test_greedy_search_keeps_no_score(marian: Pair) -> None:
    ((only,),) = finished(marian, {0: (0, Decoding(1, 1.0, 14))}).values()
    assert np.isnan(only.score)


@pytest.mark.parametrize("num_beams", [1, 4])
def test_only_a_search_that_runs_into_a_loop_differs_and_it_says_so(
    marian: Pair, num_beams: int
) -> None:
    window, limit = 9, 40
    free = Decoding(num_beams, 1.0, limit)
    watched = free._replace(repetition_window=window)
    stopped = finished(marian, {key: (key, watched) for key in range(24)})
    reasons = {key: found[0].finish_reason for key, found in stopped.items()}
    assert FinishReason.REPETITION in reasons.values()
    for key, found in stopped.items():
        said, whole = found[0].ids.tolist(), generated(marian, key, free)[0][0]
        if reasons[key] is not FinishReason.REPETITION:
            assert said == whole
        elif num_beams == 1:  # a greedy search has no second thoughts
            assert whole[: len(said)] == said
            assert len(said) < len(whole)
    assert len(set(reasons.values())) > 1


def test_a_looping_sentence_leaves_its_row_at_once(marian: Pair) -> None:
    """The others go on as if nothing had been."""
    watched, free = Decoding(1, 1.0, 40, repetition_window=9), Decoding(1, 1.0, 40)
    found = finished(marian, {key: (key, watched) for key in range(24)})
    loops = next(key for key, one in found.items() if one[0].stopped_repeating)
    rows = DecodeBatch(marian.rules)
    rows.step(marian.sessions, [newcomers(marian, {0: (loops, watched), 1: (loops, free)})])
    steps = 1
    while rows.sentences == 2:
        done = rows.step(marian.sessions)
        steps += 1
    assert [one.key for one in done] == [0]
    assert steps < 40
    written = dict(rows.progress())[1]
    assert len(written) == steps
    period = next(n for n in (1, 2, 3) if (written[-9 + n :] == written[-9:-n]).all())
    assert first_round(written, period).tolist() == done[0].found[0].ids.tolist()
