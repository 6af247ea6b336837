"""Tokens are chosen block by block, and yet as a look at the whole vocabulary would choose them."""

import numpy as np
import pytest

pytest.importorskip("onnx", reason="needs the extra train")

import onnxruntime as ort
from numpy.typing import NDArray

from models.graphs.token_choice import BLOCK, TokenChoice, in_whole_blocks
from models.graphs.translator_weights import (
    Embedding,
    Output,
    Stack,
    TranslatorWeights,
)
from models.graphs.writer import GraphWriter

Floats = NDArray[np.float32]
WIDTH = 3


def chosen(table: Floats, states: Floats, candidates: int) -> tuple[NDArray[np.int64], Floats]:
    stack = Stack(Embedding(table), None)
    untouched = TranslatorWeights(1, WIDTH, True, 1.0, stack, [], stack, [], Output(table))
    writer = GraphWriter()
    inputs = writer.input("states", np.float32, ["rows", WIDTH])
    count = writer.input("candidates", np.int64, [1])
    TokenChoice(writer, in_whole_blocks(untouched).output, count).write(inputs)
    session = ort.InferenceSession(writer.model("choice").SerializeToString())
    ids, logprobs = session.run(
        ["ids", "logprobs"], {"states": states, "candidates": np.array([candidates])}
    )
    return ids, logprobs


def drawn(vocabulary: int) -> tuple[Floats, Floats]:
    """Small whole numbers, so that many tokens are equally good."""
    random = np.random.default_rng(vocabulary)
    table = random.integers(-2, 3, (vocabulary, WIDTH)).astype(np.float32)
    return table, random.integers(-2, 3, (7, WIDTH)).astype(np.float32)


@pytest.mark.parametrize("vocabulary", [5, BLOCK, BLOCK + 1, 300])
def test_one_candidate_is_the_first_of_the_best(vocabulary: int) -> None:
    table, states = drawn(vocabulary)
    ids, _ = chosen(table, states, 1)
    assert ids[:, 0].tolist() == (states @ table.T).argmax(axis=1).tolist()


@pytest.mark.parametrize("vocabulary", [9, BLOCK, BLOCK + 1, 300])
@pytest.mark.parametrize("candidates", [2, 9])
def test_several_candidates_are_the_best_and_of_equals_the_first(
    vocabulary: int, candidates: int
) -> None:
    table, states = drawn(vocabulary)
    ids, logprobs = chosen(table, states, candidates)
    logits = states @ table.T
    best = np.argsort(-logits, axis=1, kind="stable")[:, :candidates]
    assert ids.tolist() == best.tolist()
    summed = np.log(np.exp(logits).sum(axis=1, keepdims=True))
    expected = np.take_along_axis(logits, best, axis=1) - summed
    assert np.allclose(logprobs, expected, atol=1e-5)


def test_no_token_that_fills_up_the_last_block_is_ever_chosen() -> None:
    table = np.full((BLOCK + 5, WIDTH), -1, np.float32)
    ids, _ = chosen(table, np.ones((2, WIDTH), np.float32), 2)
    assert ids.max() < len(table)
