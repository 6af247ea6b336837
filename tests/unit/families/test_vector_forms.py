"""Vectors of tokens, and sparse vectors from weights of tokens (BGE-M3)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.errors import InvalidInputError
from service.families.text_embedder import (
    TextEmbedderParameters,
    open_text_embedder,
    text_embedder_abilities,
)
from service.tasks import EmbedItem, Task, Text
from tests.sentences import sentence
from tests.unit.families.sessions import Arrays, NumpySession, states_session
from tests.unit.transforms.texts import word_tokenizer


def opened(folder: Path, **parameters: Any) -> Any:
    word_tokenizer().save(str(folder / "tokenizer.json"))
    return open_text_embedder(folder, TextEmbedderParameters(max_length=24, pad_id=5, **parameters))


def answered(family: Any, session: NumpySession, items: list[EmbedItem]) -> list[Any]:
    batch = [family.processor.preprocess(item) for item in items]
    results = family.model.infer({"model": session}, batch)
    return [
        family.processor.postprocess(result, item)
        for result, item in zip(results, items, strict=True)
    ]


def test_tokens_share_a_batch_with_other_forms(tmp_path: Path) -> None:
    family, session = opened(tmp_path, pooling="mean", normalize=False), states_session(4)
    text = Text("one two three")
    items = [
        EmbedItem(Text("one " * 9)),
        EmbedItem(text, form="tokens"),
        EmbedItem(text),
        EmbedItem(text, dimensions=2, normalize=True, form="tokens"),
    ]
    _, tokens, whole, unit = answered(family, session, items)
    ids = family.processor.preprocess(items[1]).tensors["input_ids"]
    assert tokens.vector.shape == (len(ids), 4)
    np.testing.assert_allclose(tokens.vector.mean(axis=0), whole.vector, rtol=1e-6)
    assert unit.vector.shape == (len(ids), 2)
    np.testing.assert_allclose(np.linalg.norm(unit.vector, axis=1), 1, atol=1e-6)


def test_a_graph_without_vectors_of_tokens_is_not_asked_for_them(tmp_path: Path) -> None:
    family = opened(tmp_path, pooling="none")
    with pytest.raises(InvalidInputError, check=sentence):
        family.processor.preprocess(EmbedItem(Text("one"), form="tokens"))
    with pytest.raises(InvalidInputError, check=sentence):
        family.processor.preprocess(EmbedItem(Text("one"), form="sparse"))


def test_the_largest_weight_of_a_token_counts_and_special_tokens_do_not(tmp_path: Path) -> None:
    own = {"pooling": "none", "output": "dense_vecs", "sparse_output": "sparse_vecs"}
    family = opened(tmp_path, **own)

    def compute(feeds: Arrays) -> Arrays:
        ids = feeds["input_ids"]
        places = np.arange(ids.shape[1], dtype=np.float32)
        return {
            "dense_vecs": np.ones((len(ids), 3), np.float32),
            "sparse_vecs": np.tile(places[None, :, None] - 1, (len(ids), 1, 1)),
        }

    item = EmbedItem(Text("one two one three"), form="sparse")
    sparse, dense = answered(family, NumpySession(compute), [item, EmbedItem(Text("one"))])
    ids = family.processor.preprocess(item).tensors["input_ids"].tolist()
    special = {*family.traits.tokenizer.frame_ids, family.processor.texts.pad_id}
    expected: dict[int, float] = {}
    for place, number in enumerate(ids):
        if number not in special and place - 1 > 0:
            expected[number] = max(expected.get(number, 0), place - 1)
    assert dict(zip(sparse.indices.tolist(), sparse.vector.tolist(), strict=True)) == expected
    assert dense.vector.size == 3
    assert (Task.SPARSE, "text") in text_embedder_abilities(family.processor.parameters)
