"""Beam search by its definition: one sentence, plain lists, no caches, nothing vectorised.

Written from the description of beam search in transformers 4.50 (early_stopping=False).
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from service.families.translation.search.decoding import Decoding

NextLogProbs = Callable[[list[int]], NDArray[np.float32]]


def reference_greedy(
    next_logprobs: NextLogProbs, decoding: Decoding, start_id: int, eos_id: int
) -> tuple[list[int], bool]:
    written: list[int] = []
    while len(written) < decoding.max_new_tokens:
        token = int(np.argmax(next_logprobs([start_id, *written])))
        if token == eos_id:
            return written, True
        written.append(token)
    return written, False


def reference_beams(
    next_logprobs: NextLogProbs, decoding: Decoding, start_id: int, eos_id: int
) -> tuple[list[int], bool]:
    count = decoding.num_beams
    # All beams begin alike, so all but the first are made hopeless.
    beams = [(np.float32(0 if n == 0 else -1e9), [start_id]) for n in range(count)]
    pool = _Pool(decoding)
    for length in range(1, decoding.max_new_tokens + 1):
        candidates = _candidates(next_logprobs, beams)[: 2 * count]
        for logprob, written, token in candidates[:count]:
            if token == eos_id:
                pool.add(logprob, written, length, True)
        going_on = [one for one in candidates if one[2] != eos_id][:count]
        beams = [(logprob, [*written, token]) for logprob, written, token in going_on]
        attainable = float(beams[0][0]) / length**decoding.length_penalty
        if pool.is_full and pool.worst >= attainable:
            return pool.best
    for logprob, written in beams:
        pool.add(logprob, written, decoding.max_new_tokens, False)
    return pool.best


def _candidates(
    next_logprobs: NextLogProbs, beams: list[tuple[np.float32, list[int]]]
) -> list[tuple[np.float32, list[int], int]]:
    found = [
        (logprob + more, written, token)
        for logprob, written in beams
        for token, more in enumerate(next_logprobs(written))
    ]
    return sorted(found, key=lambda one: -one[0])


class _Pool:
    def __init__(self, decoding: Decoding) -> None:
        self.decoding = decoding
        self.found: list[tuple[float, list[int], bool]] = []

    def add(self, logprob: np.float32, written: list[int], length: int, ended: bool) -> None:
        worth = float(logprob) / length**self.decoding.length_penalty
        if self.is_full and worth <= self.worst:
            return
        self.found.append((worth, written[1:], ended))
        if len(self.found) > self.decoding.num_beams:
            self.found.remove(min(self.found, key=lambda one: one[0]))

    @property
    def is_full(self) -> bool:
        return len(self.found) == self.decoding.num_beams

    @property
    def worst(self) -> float:
        return min(worth for worth, _, _ in self.found)

    @property
    def best(self) -> tuple[list[int], bool]:
        return max(reversed(self.found), key=lambda one: one[0])[1:]
