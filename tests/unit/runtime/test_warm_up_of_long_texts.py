"""What is too long to be timed at warm-up is foretold by what was timed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from service.engine.warmup import WarmUpPlan, measure
from service.types import PreparedItem

LENGTHS = (8, 64, 1024, 8192)


class Network:
    """Counts its own time: so much a token, and so much a pair of tokens."""

    def __init__(self, per_token: float, per_pair: float) -> None:
        self._costs = (per_token, per_pair)
        self.now = 0.0
        self.run_lengths: set[int] = set()

    def cost(self, length: int) -> float:
        per_token, per_pair = self._costs
        return per_token * length + per_pair * length**2

    def infer(self, sessions: Any, batch: Sequence[PreparedItem]) -> list[Any]:
        self.run_lengths.add(batch[0].length)
        self.now += len(batch) * self.cost(batch[0].length)
        return []

    def timed(self) -> dict[tuple[int, int], float]:
        def probe(length: int) -> PreparedItem:
            return PreparedItem({"input_ids": np.zeros(length, np.int64)}, "default", length)

        plan = WarmUpPlan(LENGTHS, 4, None, 0.01)
        return measure(self.infer, {}, probe, plan, lambda: self.now)


@pytest.mark.parametrize(("per_token", "per_pair"), [(2e-4, 1e-6), (1e-3, 0.0), (1e-5, 1e-6)])
def test_a_long_text_is_foretold_where_it_would_take_long(
    per_token: float, per_pair: float
) -> None:
    network = Network(per_token, per_pair)
    measured = network.timed()
    assert network.run_lengths == {8, 64, 1024}
    assert measured[1, 8192] == pytest.approx(network.cost(8192), rel=0.01)


def test_a_long_text_is_timed_where_it_is_quick() -> None:
    network = Network(2e-6, 1e-9)
    assert network.timed()[1, 8192] == pytest.approx(network.cost(8192))
    assert network.run_lengths == {*LENGTHS}


def test_a_text_of_usual_length_is_timed_whatever_it_costs() -> None:
    network = Network(1.0, 0.0)
    network.timed()
    assert network.run_lengths == {8, 64, 1024}
