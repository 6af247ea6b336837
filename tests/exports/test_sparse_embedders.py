"""SPLADE models, exported and served, against sentence-transformers' SparseEncoder."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optimum.exporters.onnx", reason="needs the extra train")

import numpy as np
import transformers
from sentence_transformers import SparseEncoder
from sentence_transformers.base.modules import Transformer
from sentence_transformers.sparse_encoder.modules import SpladePooling

from service.tasks import EmbedItem, Text
from tests.exports.exporting import export_directory, seeded
from tests.exports.serving import answers
from tests.exports.test_text_classifiers import SMALL
from tests.exports.text_files import TEXTS, tokenizer_for

pytestmark = [pytest.mark.looptime(False), pytest.mark.filterwarnings("ignore")]

ASKED = [text for text in TEXTS if "\ud800" not in text]


@pytest.mark.parametrize(
    "pooling",
    [
        {"pooling_strategy": "max"},
        {"pooling_strategy": "sum", "activation_function": "log1p_relu"},
    ],
    ids=str,
)
def test_weights_are_those_of_sentence_transformers(
    pooling: dict[str, Any], tmp_path: Path
) -> None:
    tokenizer = tokenizer_for("bert", tmp_path / "vocabulary")
    config = transformers.BertConfig(vocab_size=len(tokenizer), pad_token_id=0, **SMALL)
    config._attn_implementation = "eager"
    model = seeded(transformers.BertForMaskedLM, config)
    folder = export_directory(model, tokenizer, tmp_path / "model", "fill-mask")
    model.save_pretrained(tmp_path / "weights")
    tokenizer.save_pretrained(tmp_path / "weights")
    steps = [
        Transformer(str(tmp_path / "weights"), transformer_task="fill-mask"),
        SpladePooling(**pooling),
    ]
    original = SparseEncoder(modules=steps, device="cpu")
    original.save_pretrained(str(tmp_path / "saved"))
    for name in ("modules.json", "1_SpladePooling/config.json", "sentence_bert_config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes((tmp_path / "saved" / name).read_bytes())
    assert json.loads((folder / "modules.json").read_text())[1]["type"].endswith("SpladePooling")

    items = [EmbedItem(Text(text), form="sparse") for text in ASKED]
    expected = original.encode(ASKED, convert_to_sparse_tensor=False).numpy()
    for given in asyncio.run(answers(folder, items)):
        for one, row in zip(given, expected, strict=True):
            dense = np.zeros_like(row)
            dense[one.indices] = one.vector
            np.testing.assert_allclose(dense, row, atol=1e-4)
            assert (one.vector > 0).all()
            assert (np.diff(one.indices) > 0).all()
