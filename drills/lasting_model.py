"""A text classifier that computes for ever on one word, and at once on all others."""

import json
import shutil
from pathlib import Path

import onnx
from onnx import TensorProto, helper

from drills.service import STARTERS

_SOURCE = STARTERS / "news-topics" / "1"
_REPEATS = 3
_WORD = "music"
TEXT = " ".join([_WORD] * _REPEATS)
"""The text on which it does not end."""
_MANIFEST = """\
task = "classify"
family = "text_classifier"
[graphs.fp32]
model = "model.onnx"
[batching]
max_batch_size = 4
[parameters]
tokenizer = "tokenizer.json"
labels = ["a", "b", "c", "d"]
max_length = 64
pad_id = 0
"""


def write(folder: Path) -> None:
    """Write the model's version folder."""
    folder.mkdir(parents=True)
    shutil.copy(_SOURCE / "tokenizer.json", folder)
    (folder / "model.toml").write_text(_MANIFEST)
    onnx.save(model(_token()), folder / "model.onnx")


def _token() -> int:
    tokenizer = json.loads((_SOURCE / "tokenizer.json").read_text(encoding="utf-8"))
    vocabulary = tokenizer["model"]["vocab"]
    return int(
        next(vocabulary[name] for name in (_WORD, f"▁{_WORD}", f"Ġ{_WORD}") if name in vocabulary)
    )


def model(token: int) -> onnx.ModelProto:
    """Return a graph that loops 10^15 times where a row holds the token three times."""
    node, value = helper.make_node, helper.make_tensor_value_info
    scalar = {"token": token, "repeats": _REPEATS, "once": 1, "always": 10**15}
    constants = [
        helper.make_tensor(name, TensorProto.INT64, [], [number]) for name, number in scalar.items()
    ]
    constants += [
        helper.make_tensor("last", TensorProto.INT64, [1], [1]),
        helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0]),
        helper.make_tensor("ramp", TensorProto.FLOAT, [1, 4], [0.0, 1.0, 2.0, 3.0]),
        helper.make_tensor("go", TensorProto.BOOL, [], [True]),
    ]
    body = helper.make_graph(
        [node("Identity", ["on"], ["on_out"]), node("Cos", ["x"], ["x_out"])],
        "body",
        [value("i", TensorProto.INT64, []), value("on", TensorProto.BOOL, []),
         value("x", TensorProto.FLOAT, [1])],
        [value("on_out", TensorProto.BOOL, []), value("x_out", TensorProto.FLOAT, [1])],
    )  # fmt: skip
    nodes = [
        node("Equal", ["input_ids", "token"], ["same"]),
        node("Cast", ["same"], ["ones"], to=TensorProto.INT64),
        node("ReduceSum", ["ones", "last"], ["count"], keepdims=1),
        node("ReduceMax", ["count"], ["most"], keepdims=0),
        node("GreaterOrEqual", ["most", "repeats"], ["lasts"]),
        node("Where", ["lasts", "always", "once"], ["trips"]),
        node("Loop", ["trips", "go", "zero"], ["end"], body=body),
        node("Sub", ["end", "end"], ["nothing"]),
        node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        node("ReduceMax", ["mask", "last"], ["row"], keepdims=1),
        node("Mul", ["row", "ramp"], ["scores"]),
        node("Add", ["scores", "nothing"], ["logits"]),
    ]
    shape = ["batch", "sequence"]
    graph = helper.make_graph(
        nodes,
        "lasting",
        [
            value("input_ids", TensorProto.INT64, shape),
            value("attention_mask", TensorProto.INT64, shape),
        ],
        [value("logits", TensorProto.FLOAT, ["batch", 4])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(model)
    return model
