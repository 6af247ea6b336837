import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from service.repository.repository import ModelRepository

AddVersion = Callable[..., Path]
Change = Callable[[Path], object]


def digest(root: Path, precision: str = "fp32") -> str:
    return ModelRepository(root).open("topics", 1, precision).digest


def rewrite(name: str, old: str, new: str) -> Change:
    def change(folder: Path) -> None:
        path = folder / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return change


def append(name: str) -> Change:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("ab") as file:
            file.write(b" ")

    return change


def test_a_digest_is_128_bits_and_the_same_every_time(root: Path, add_version: AddVersion) -> None:
    add_version()
    first = digest(root)
    assert len(bytes.fromhex(first)) == 16
    assert digest(root) == first


def test_a_copy_elsewhere_has_the_same_digest(
    root: Path, add_version: AddVersion, tmp_path: Path
) -> None:
    folder = add_version()
    other = tmp_path / "other" / "topics" / "1"
    other.mkdir(parents=True)
    for path in sorted(folder.iterdir(), reverse=True):  # made in another order
        (other / path.name).write_bytes(path.read_bytes())
    assert digest(tmp_path / "other") == digest(root)


def test_the_order_of_a_listing_does_not_matter(
    root: Path, add_version: AddVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_version()
    first = digest(root)
    walk = os.walk

    def backwards(top: Path, **options: Any) -> object:
        for parent, folders, names in walk(top, **options):
            yield parent, folders[::-1], sorted(names, reverse=True)

    monkeypatch.setattr(os, "walk", backwards)
    assert digest(root) == first


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(append("tokenizer.json"), id="the tokenizer"),
        pytest.param(lambda folder: onnx.save(another(), folder / "model.onnx"), id="the graph"),
        pytest.param(append("vocabulary.bin"), id="a file the family may read"),
        pytest.param(append("sub/merges.txt"), id="a file in a subfolder"),
        pytest.param(
            lambda folder: (folder / "tokenizer.json").rename(folder / "tok.json"), id="a name"
        ),
        pytest.param(rewrite("model.toml", '"a", "b"', '"b", "a"'), id="the labels"),
        pytest.param(rewrite("model.toml", '"text_classifier"', '"other"'), id="the family"),
        pytest.param(rewrite("model.toml", '"classify"', '"embed"'), id="the task"),
    ],
)
def test_what_can_change_an_answer_changes_the_digest(
    root: Path, add_version: AddVersion, change: Change
) -> None:
    folder = add_version()
    first = digest(root)
    change(folder)
    assert digest(root) != first


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(append("README.md"), id="the card"),
        pytest.param(lambda f: onnx.save(another(), f / "model_int8.onnx"), id="other precisions"),
        pytest.param(append("goldens/0.png"), id="golden images"),
        pytest.param(append(".DS_Store"), id="hidden files"),
        pytest.param(rewrite("model.toml", "Topics", "Themes"), id="the description"),
        pytest.param(rewrite("model.toml", 'cpu = "int8"', 'cpu = "fp32"'), id="the default"),
        pytest.param(rewrite("model.toml", "fp32 = 0.001", "fp32 = 0.002"), id="a tolerance"),
        pytest.param(
            rewrite("model.toml", "[parameters]", "[batching]\nmax_batch_size = 4\n[parameters]"),
            id="the batching",
        ),
    ],
)
def test_what_cannot_change_an_answer_keeps_the_digest(
    root: Path, add_version: AddVersion, change: Change
) -> None:
    folder = add_version()
    first = digest(root)
    change(folder)
    assert digest(root) == first


def test_precisions_have_digests_of_their_own(root: Path, add_version: AddVersion) -> None:
    add_version()
    assert digest(root, "fp32") != digest(root, "int8")


def test_external_data_counts_for_its_own_precision_only(
    root: Path, add_version: AddVersion
) -> None:
    folder = add_version()
    model = another()
    model.graph.initializer[0].CopyFrom(
        numpy_helper.from_array(np.ones(4, np.float32), model.graph.initializer[0].name)
    )
    onnx.save_model(
        model,
        str(folder / "model.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    before = digest(root, "fp32"), digest(root, "int8")
    append("weights.bin")(folder)
    after = digest(root, "fp32"), digest(root, "int8")
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_moving_a_byte_from_one_file_to_the_next_changes_the_digest(
    root: Path, add_version: AddVersion
) -> None:
    folder = add_version()
    (folder / "a.txt").write_bytes(b"xy")
    (folder / "b.txt").write_bytes(b"z")
    first = digest(root)
    (folder / "a.txt").write_bytes(b"x")
    (folder / "b.txt").write_bytes(b"yz")
    assert digest(root) != first


def another() -> onnx.ModelProto:
    weight = numpy_helper.from_array(np.full(4, 9, np.float32), "weight")
    info = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [4])
    node = onnx.helper.make_node("Identity", ["weight"], ["y"])
    return onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [info], [weight]))
