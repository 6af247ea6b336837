"""A version that reads texts, small enough to break in every way."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

MANIFEST = """
task = "classify"
family = "text_classifier"
[graphs.fp32]
model = "model.onnx"
[parameters]
labels = ["low", "high"]
max_length = 16
pad_id = 0
"""

VOCABULARY = {"[UNK]": 0, "a": 1, "b": 2, "c": 3}


def reader(rows: int = len(VOCABULARY), *, fixed_head: bool = True) -> onnx.ModelProto:
    """Logits: the mean of the tokens' rows of an embedding. The mask only counts the tokens."""
    nodes = [
        helper.make_node("Gather", ["embedding", "input_ids"], ["rows"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["rows", "column"], ["kept"]),
        helper.make_node("ReduceMean", ["kept"], ["logits"], axes=[1], keepdims=0),
    ]
    shape = ["batch", "length"]
    graph = helper.make_graph(
        nodes,
        "reader",
        [
            helper.make_tensor_value_info(name, TensorProto.INT64, shape)
            for name in ("input_ids", "attention_mask")
        ],
        [
            helper.make_tensor_value_info(
                "logits", TensorProto.FLOAT, ["batch", 2 if fixed_head else "labels"]
            )
        ],
        [
            numpy_helper.from_array(
                np.linspace(-1, 1, 2 * rows, dtype=np.float32).reshape(rows, 2), "embedding"
            ),
            numpy_helper.from_array(np.array([-1]), "last"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def add_words(root: Path) -> Path:
    """Write the model `words` in version 1; return its folder."""
    folder = root / "words" / "1"
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(MANIFEST)
    onnx.save(reader(), folder / "model.onnx")
    tokenizer = Tokenizer(WordLevel(VOCABULARY, "[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def add_export(root: Path) -> Path:
    """Write the same model as an export directory, `exported`; return its folder."""
    folder = add_words(root).parent.rename(root / "exported") / "1"
    (folder / "model.toml").write_text("[parameters]\nmax_length = 16\n")
    config = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "low", "1": "high"},
        "pad_token_id": 0,
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder
