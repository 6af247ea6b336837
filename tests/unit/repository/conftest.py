from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

AddVersion = Callable[..., Path]

MANIFEST = """
task = "classify"
family = "text_classifier"
description = "Topics of headlines"

[graphs.fp32]
model = "model.onnx"

[graphs.int8]
model = "model_int8.onnx"

[default_precision]
cpu = "int8"
cuda = "fp32"

[tolerance]
fp32 = 0.001
int8 = 0.05

[parameters]
tokenizer = "tokenizer.json"
labels = ["a", "b"]
"""


def add_graph(scale: float = 1.0) -> onnx.ModelProto:
    """y = x + scale, with the scale as an initialiser."""
    weight = numpy_helper.from_array(np.full(4, scale, np.float32), "weight")
    tensor = {name: helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy"}
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "weight"], ["y"])],
        "g",
        [tensor["x"]],
        [tensor["y"]],
        [weight],
    )
    return helper.make_model(graph)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "repository"
    path.mkdir()
    return path


@pytest.fixture
def add_version(root: Path) -> AddVersion:
    def add(model: str = "topics", version: str = "1", manifest: str = MANIFEST) -> Path:
        folder = root / model / version
        folder.mkdir(parents=True)
        (folder / "model.toml").write_text(manifest, encoding="utf-8")
        onnx.save(add_graph(1.0), folder / "model.onnx")
        onnx.save(add_graph(2.0), folder / "model_int8.onnx")
        (folder / "tokenizer.json").write_text("{}", encoding="utf-8")
        (folder / "README.md").write_text("# Topics", encoding="utf-8")
        return folder

    return add
