"""The batched searches find, token for token, what their definitions find."""

import itertools
from typing import Any

import numpy as np
import pytest

from service.families.translation.search.decoding import Decoding, Hypothesis
from service.families.translation.search.logits import LogitsSearch
from service.families.translation.search.rules import UNFORCED, Texts, TokenRules
from service.tasks import FinishReason
from tests.unit.families.reference_search import reference_beams, reference_greedy
from tests.unit.families.sessions import TranslatorGraphs

START, EOS, VOCABULARY = 1, 2, 24
RULES = TokenRules(START, (EOS,))
SOURCES = [np.random.default_rng(n).integers(3, 60, 1 + n % 5) for n in range(6)]


def started(sentences: int, decoding: Decoding) -> LogitsSearch:
    sources = [np.zeros(0, np.int64)] * sentences
    return LogitsSearch(decoding, RULES, Texts(np.full(sentences, UNFORCED), sources))


def searched(
    graphs: TranslatorGraphs, sources: list[Any], decoding: Decoding
) -> tuple[list[Hypothesis], list[int]]:
    """Search with no caches: every row carries its whole history. Also the rows of each step."""
    search = started(len(sources), decoding)
    rows = []
    while not search.is_finished:
        rows.append(len(search.history))
        logprobs = [
            graphs.next_logprobs(sources[sentence], prefix)
            for sentence, prefix in zip(search.sentence_idx, search.history.tolist(), strict=True)
        ]
        search.advance(np.array(logprobs))
    return [found[0] for found in search.results()], rows


@pytest.mark.parametrize("eos_bias", [-1.0, 1.0, 3.0])
@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 1.0, 2.0, -1.0])
@pytest.mark.parametrize("num_beams", [1, 2, 3, 4, 8])
def test_a_batched_search_equals_its_definition(
    num_beams: int, length_penalty: float, eos_bias: float
) -> None:
    complete = 0
    for seed, limit in itertools.product(range(2), (1, 2, 12)):
        graphs = TranslatorGraphs(VOCABULARY, EOS, eos_bias, seed)
        decoding = Decoding(num_beams, length_penalty, limit)
        found, _ = searched(graphs, SOURCES, decoding)
        reference = reference_greedy if num_beams == 1 else reference_beams
        for source, hypothesis in zip(SOURCES, found, strict=True):
            expected = reference(
                lambda prefix, g=graphs, s=source: g.next_logprobs(s, prefix), decoding, START, EOS
            )
            assert (hypothesis.ids.tolist(), hypothesis.is_complete) == expected
            complete += hypothesis.is_complete
    assert complete > 0  # so that ends were really met


@pytest.mark.parametrize("num_beams", [1, 3])
def test_a_finished_sentence_leaves_the_running_rows(num_beams: int) -> None:
    graphs = TranslatorGraphs(VOCABULARY, EOS, 1.0)
    decoding = Decoding(num_beams, 1.0, 30)
    alone = [searched(graphs, [source], decoding)[1] for source in SOURCES]
    _, together = searched(graphs, SOURCES, decoding)
    steps = itertools.zip_longest(*alone, fillvalue=0)
    assert together == [sum(rows) for rows in steps]
    assert len({len(rows) for rows in alone}) > 1


@pytest.mark.parametrize("num_beams", [1, 4])
def test_no_end_comes_before_the_least_number_of_tokens(num_beams: int) -> None:
    graphs = TranslatorGraphs(VOCABULARY, EOS, 8.0)
    free, _ = searched(graphs, SOURCES, Decoding(num_beams, 1.0, 9))
    assert any(hypothesis.ids.size < 9 for hypothesis in free)
    held, rows = searched(graphs, SOURCES, Decoding(num_beams, 1.0, 9, min_new_tokens=9))
    assert all(hypothesis.ids.size == 9 for hypothesis in held)
    assert len(rows) == 9


def test_what_the_limit_cut_off_is_not_complete() -> None:
    graphs = TranslatorGraphs(VOCABULARY, EOS, -50.0)
    for num_beams in (1, 4):
        found, _ = searched(graphs, SOURCES, Decoding(num_beams, 1.0, 5))
        assert [h.ids.size for h in found] == [5] * len(SOURCES)
        assert not any(h.is_complete for h in found)


def test_an_end_at_once_is_an_empty_translation() -> None:
    graphs = TranslatorGraphs(VOCABULARY, EOS, 1e4)
    for num_beams in (1, 4):
        found, _ = searched(graphs, SOURCES, Decoding(num_beams, 0.0, 5))
        assert [h.ids.size for h in found] == [0] * len(SOURCES)
        assert all(h.is_complete for h in found)


def test_the_log_probabilities_handed_in_are_not_written_to() -> None:
    for num_beams in (1, 4):
        search = started(1, Decoding(num_beams, 1.0, 5, min_new_tokens=2))
        logprobs = np.log(np.full((1, VOCABULARY), 1 / VOCABULARY, np.float32))
        logprobs.flags.writeable = False
        search.advance(logprobs)
        assert not search.is_finished


@pytest.mark.parametrize("num_beams", [2, 4])
def test_all_hypotheses_are_told_the_best_first(num_beams: int) -> None:
    graphs = TranslatorGraphs(VOCABULARY, EOS, 1.0)
    decoding = Decoding(num_beams, 0.6, 12)
    search = started(len(SOURCES), decoding)
    while not search.is_finished:
        rows = zip(search.sentence_idx, search.history.tolist(), strict=True)
        search.advance(np.array([graphs.next_logprobs(SOURCES[n], prefix) for n, prefix in rows]))
    for source, found in zip(SOURCES, search.results(), strict=True):
        assert len(found) == num_beams
        assert len({tuple(one.ids.tolist()) for one in found}) == num_beams
        scores = [one.score for one in found]
        assert scores == sorted(scores, reverse=True)
        for one in found:
            assert one.score == pytest.approx(worth(graphs, source, one, decoding), rel=1e-5)


def worth(graphs: TranslatorGraphs, source: Any, found: Hypothesis, decoding: Decoding) -> float:
    """The score by its definition."""
    tokens = [*found.ids.tolist(), EOS] if found.is_complete else found.ids.tolist()
    logprobs = [
        graphs.next_logprobs(source, [START, *tokens[:place]])[token]
        for place, token in enumerate(tokens)
    ]
    return float(sum(logprobs)) / len(tokens) ** decoding.length_penalty


def test_a_loop_ends_a_greedy_search_and_the_others_go_on() -> None:
    search = started(2, Decoding(1, 1.0, 20, repetition_window=6))
    said = [[7, 8, 5, 6, 5, 6, 5, 6], [7, 8, 5, 6, 5, 6, 5, 9, EOS]]
    for step in itertools.count():
        logprobs = np.full((len(search.history), VOCABULARY), -9, np.float32)
        for row, sentence in enumerate(search.sentence_idx):
            logprobs[row, said[sentence][step]] = 0
        search.advance(logprobs)
        if search.is_finished:
            break
    (looped,), (whole,) = search.results()
    assert looped.ids.tolist() == [7, 8, 5, 6]
    assert (looped.finish_reason, looped.is_complete) == (FinishReason.REPETITION, False)
    assert whole.ids.tolist() == said[1][:-1]
    assert whole.finish_reason is FinishReason.STOP


@pytest.mark.parametrize(("first_end", "kept"), [(-2.0, []), (-60.0, [7])])
def test_a_loop_of_the_best_beam_leaves_what_had_ended_before(
    first_end: float, kept: list[int]
) -> None:
    """Two beams: one says 7 for ever; an end at the first step is pooled if it is among the two."""
    search = started(1, Decoding(2, 1.0, 20, repetition_window=3))
    while not search.is_finished:
        logprobs = np.full((len(search.history), VOCABULARY), -50, np.float32)
        logprobs[:, 7], logprobs[:, 8] = -0.1, -20
        if len(search.history) == 1:
            logprobs[:, EOS] = first_end
        search.advance(logprobs)
    (found,) = search.results()
    assert found[0].ids.tolist() == kept
    assert found[0].stopped_repeating
    assert found[0].is_complete == (not kept)
