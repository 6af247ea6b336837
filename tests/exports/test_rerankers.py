"""Rerankers, exported and served: order and scores are those of sentence-transformers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optimum.exporters.onnx", reason="needs the extra train")

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from service.requests.request import Request, Selection
from service.requests.rerank import ranking, rerank
from service.tasks import Text
from tests.exports.serving import serving
from tests.exports.test_text_classifiers import exported

pytestmark = [pytest.mark.looptime(False), pytest.mark.filterwarnings("ignore")]

QUERY = "what does a man eat"
DOCUMENTS = ["A man eats an apple.", "Nobody sleeps.", "an apple " * 60, "a man", "eats eats"]
ACTIVATIONS = {
    "sigmoid": torch.nn.Sigmoid(),
    "identity": torch.nn.Identity(),
}


class OneModel:
    """Finds the loaded model."""

    def __init__(self, pipeline: Any) -> None:
        self.pipeline = pipeline

    def find(self, *_: Any) -> Any:
        return self.pipeline


async def served(folder: Path, raw: bool | None) -> tuple[list[float], list[int]]:
    async with serving(folder) as loaded:
        documents = [Text(text) for text in DOCUMENTS]
        found = await rerank(
            OneModel(loaded.pipeline),
            Request(),
            Selection(),
            Text(QUERY),
            documents,
            raw_scores=raw,
        )
        scores = [outcome.answer for outcome in found.outcomes]
        return scores, ranking(scores)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, CrossEncoder]:
    folder = tmp_path_factory.mktemp("reranker")
    directory, network, tokenizer = exported("Bert", folder, id2label={0: "LABEL_0"}, label2id={})
    network.save_pretrained(folder / "torch")
    tokenizer.save_pretrained(folder / "torch")
    return directory, CrossEncoder(str(folder / "torch"), max_length=64)


@pytest.mark.parametrize(
    ("raw", "activation"), [(None, "sigmoid"), (False, "sigmoid"), (True, "identity")]
)
def test_scores_and_order_are_those_of_a_cross_encoder(
    model: tuple[Path, CrossEncoder], raw: bool | None, activation: str
) -> None:
    directory, encoder = model
    scores, order = asyncio.run(served(directory, raw))
    expected = encoder.predict(
        [(QUERY, text) for text in DOCUMENTS], activation_fn=ACTIVATIONS[activation]
    )
    np.testing.assert_allclose(scores, expected, atol=1e-5)
    assert order == np.argsort(-expected, kind="stable").tolist()
    assert len(set(np.round(expected, 4))) == len(DOCUMENTS)
