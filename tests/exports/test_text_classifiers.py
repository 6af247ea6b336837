"""Text classifiers of every architecture, exported and served, against transformers' pipeline."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("optimum.exporters.onnx", reason="needs the extra train")

import numpy as np
import torch
import transformers

from service.tasks import ClassifyItem, Text
from tests.exports.exporting import export_directory, seeded
from tests.exports.serving import answers
from tests.exports.text_files import LABELS, TEXTS, tokenizer_for

pytestmark = [
    pytest.mark.looptime(False),
    # transformers' own: of what it will change, and of attention that it does not compute.
    pytest.mark.filterwarnings("ignore"),
]

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "max_position_embeddings": 66,
}
ROBERTA = {**SMALL, "type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
DEBERTA = {
    **SMALL,
    "relative_attention": True,
    "pos_att_type": ["p2c", "c2p"],
    "position_buckets": 8,
    "norm_rel_ebd": "layer_norm",
    "share_att_key": True,
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Bert": ("bert", SMALL),
    "DistilBert": (
        "distilbert",
        {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 48, "max_position_embeddings": 66},
    ),
    "Electra": ("bert", {**SMALL, "embedding_size": 16}),
    "Roberta": ("roberta", ROBERTA),
    "XLMRoberta": ("xlm-roberta", ROBERTA),
    "Albert": ("albert", {**SMALL, "embedding_size": 16}),
    "Deberta": ("deberta", {**SMALL, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]}),
    "DebertaV2": ("deberta-v2", {**DEBERTA, "type_vocab_size": 2}),
    "Bart": (
        "roberta",
        {
            "d_model": 32,
            "encoder_layers": 2,
            "decoder_layers": 2,
            "encoder_attention_heads": 4,
            "decoder_attention_heads": 4,
            "encoder_ffn_dim": 48,
            "decoder_ffn_dim": 48,
            "max_position_embeddings": 66,
        },
    ),
    "ModernBert": (
        "bert",
        {
            **SMALL,
            "global_attn_every_n_layers": 2,
            "local_attention": 8,
            "reference_compile": False,
        },
    ),
}


def exported(name: str, folder: Path, **config: Any) -> tuple[Path, Any, Any]:
    """Export a small model of this architecture; return the directory, model and tokenizer."""
    kind, sizes = ARCHITECTURES[name]
    tokenizer = tokenizer_for(kind, folder / "vocabulary")
    made = getattr(transformers, f"{name}Config")(
        vocab_size=len(tokenizer),
        **{"pad_token_id": tokenizer.pad_token_id, **sizes},
        **{"id2label": dict(enumerate(LABELS)), "label2id": {}, **config},
    )
    made._attn_implementation = "eager"
    model = seeded(getattr(transformers, f"{name}ForSequenceClassification"), made)
    return (
        export_directory(model, tokenizer, folder / "model", "text-classification"),
        model,
        tokenizer,
    )


def reference(model: Any, tokenizer: Any, text: Any) -> dict[str, float]:
    if isinstance(text, str):  # transformers has no answer to what is not Unicode
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    pipeline = transformers.pipeline("text-classification", model=model, tokenizer=tokenizer)
    longest = min(tokenizer.model_max_length, 64)
    with torch.inference_mode():
        found = pipeline(text, top_k=None, truncation=True, max_length=longest)
    return {one["label"]: one["score"] for one in found}


def compared(folder: Path, model: Any, tokenizer: Any, items: list[Any]) -> None:
    """Hold the answers, alone and together, against the pipeline's."""
    asked = [
        ClassifyItem(Text(item["text"]), None, item["text_pair"])
        if isinstance(item, dict)
        else ClassifyItem(Text(item))
        for item in items
    ]
    alone, together = asyncio.run(answers(folder, asked))
    for item, one, other in zip(items, alone, together, strict=True):
        expected = reference(model, tokenizer, item)
        for answer in (one, other):
            given = {label.name: label.score for label in answer.labels}
            assert list(given) == sorted(given, key=lambda name: -given[name])
            assert given.keys() == expected.keys()
            np.testing.assert_allclose(
                [given[name] for name in expected], list(expected.values()), atol=1e-4
            )


PAIR = {"text": "A man eats an apple.", "text_pair": "Somebody eats. " * 30}


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_an_export_answers_as_the_pipeline_does(name: str, tmp_path: Path) -> None:
    folder, model, tokenizer = exported(name, tmp_path)
    # Often enough that pairs and texts with end tokens of their own wait together.
    compared(folder, model, tokenizer, [*TEXTS, PAIR, "one </s> and [SEP] more"] * 4)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"problem_type": "multi_label_classification"}, id="several labels at once"),
        pytest.param({"problem_type": "regression"}, id="a regression with several numbers"),
        pytest.param({"problem_type": "regression", "id2label": {0: "score"}}, id="a regression"),
        pytest.param({"id2label": {0: "relevant"}}, id="one label"),
        pytest.param({"id2label": {0: "LABEL_0", 1: "LABEL_1"}}, id="labels without names"),
    ],
)
def test_scores_are_made_as_the_problem_type_says(config: dict[str, Any], tmp_path: Path) -> None:
    folder, model, tokenizer = exported("Bert", tmp_path, **config)
    compared(folder, model, tokenizer, TEXTS[:3])


def test_labels_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    folder, model, tokenizer = exported("Bert", tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = dict(reversed(config["id2label"].items()))
    (folder / "config.json").write_text(json.dumps(config))
    compared(folder, model, tokenizer, TEXTS[:2])


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param(["architectures"], id="the architecture"),
        pytest.param(["id2label", "label2id"], id="labels"),
    ],
)
@pytest.mark.parametrize("count", [1, 4])
def test_what_config_json_leaves_out_is_in_the_graph(
    missing: list[str], count: int, tmp_path: Path
) -> None:
    named = {number: f"LABEL_{number}" for number in range(count)}
    folder, model, tokenizer = exported("DistilBert", tmp_path, id2label=named)
    config = json.loads((folder / "config.json").read_text())
    kept = {key: value for key, value in config.items() if key not in missing}
    assert len(kept) < len(config)
    (folder / "config.json").write_text(json.dumps(kept))
    compared(folder, model, tokenizer, TEXTS[:2])
