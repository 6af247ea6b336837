from pathlib import Path

import numpy as np
import pytest

from benchmarks.limit import Question, Workers, batches
from benchmarks.subjects import Sources, prepare

WORDS = ["aaaa", "b", "cc", "ddd", "ee", "ffff", "g"]


def test_items_as_they_come_stay_in_order() -> None:
    assert batches(WORDS, 3, None) == [["aaaa", "b", "cc"], ["ddd", "ee", "ffff"]]


def test_neighbours_by_length_share_a_batch() -> None:
    found = batches(WORDS, 2, len)
    assert all(abs(len(first) - len(second)) <= 1 for first, second in found)
    assert len(found) == 3


def test_few_items_are_repeated_to_fill_a_batch() -> None:
    assert batches(["a", "b"], 5, None) == [["a", "b", "a", "b", "a"]]


@pytest.mark.integration  # it starts processes
@pytest.mark.looptime(False)
def test_workers_answer_together_and_count_what_they_did(tmp_path: Path) -> None:
    subject = prepare("detector", Sources(tmp_path, tmp_path))
    with Workers(subject, count=2, threads=1) as workers:
        told = workers.ask(Question(0.2))
        assert len(told) == 2
        assert all(one.items == len(one.runs) >= 1 for one in told)
        assert all(one.seconds == pytest.approx(sum(one.runs)) for one in told)
        by_four = workers.ask(Question(0.05, batch=4))
    assert all(one.items == 4 * len(one.runs) for one in by_four)
    assert np.isfinite(sum(one.seconds for one in by_four))
