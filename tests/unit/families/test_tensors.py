"""The family for any graph, on real sessions: what is batched, and what is refused."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto as T
from onnx import helper, numpy_helper

from service.errors import (
    InferenceError,
    InvalidInputError,
    LimitExceededError,
    ModelLoadError,
    ServiceError,
)
from service.families.family import Opened
from service.registry.opening import open_family
from service.repository.repository import ModelRepository
from service.requests.tensors import items_of, joined
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.tasks import Inference
from tests.sentences import sentence

Value = tuple[str, int, Sequence[Any] | None]


def written(
    root: Path,
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]],
    inputs: Sequence[Value],
    outputs: Sequence[Value],
    said: str = 'family = "tensors"\n',
    **constants: NDArray[Any],
) -> Path:
    """A folder with one graph of any name, and a model.toml of one line."""
    graph = helper.make_graph(
        [helper.make_node(op, i, o, **attributes) for op, i, o, attributes in nodes],
        "g",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_tensor_value_info(*value) for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    folder = root / "net"
    folder.mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "any-name.onnx")
    (folder / "model.toml").write_text(said)
    return folder


def opened(folder: Path) -> tuple[Opened[Any, Any], dict[str, OrtSession]]:
    files = ModelRepository(folder.parent).open(folder.name, None, None, "cpu")
    sessions = {"model": OrtSession(files.graphs["model"], Device("cpu"), 1)}
    settle = open_family(files).traits.settle
    assert settle is not None
    return settle(sessions), sessions


def answered(folder: Path, most: int = 64, **tensors: Any) -> Mapping[str, NDArray[Any]]:
    """What a request gets, all of its rows in one batch."""
    family, sessions = opened(folder)
    signature = family.traits.signature
    assert signature is not None
    items = items_of({k: np.asarray(v) for k, v in tensors.items()}, signature, most)
    prepared = [family.processor.preprocess(item) for item in items]
    results = family.model.infer(sessions, prepared)
    answers = [family.processor.postprocess(r, i) for r, i in zip(results, items, strict=True)]
    assert all(isinstance(answer, Inference) for answer in answers)
    return joined(answers, signature)


def is_batched(folder: Path) -> bool:
    signature = opened(folder)[0].traits.signature
    assert signature is not None
    return signature.is_batched


@pytest.fixture
def linear(tmp_path: Path) -> Path:
    weights = np.arange(12, dtype=np.float32).reshape(4, 3)
    nodes = [("MatMul", ["x", "w"], ["y"], {})]
    return written(
        tmp_path, nodes, [("x", T.FLOAT, ["n", 4])], [("y", T.FLOAT, ["n", 3])], w=weights
    )


def test_rows_are_batched_and_answered_as_the_graph_does(linear: Path) -> None:
    assert is_batched(linear)
    x = np.arange(8, dtype=np.float32).reshape(2, 4)
    expected = x @ np.arange(12, dtype=np.float32).reshape(4, 3)
    np.testing.assert_allclose(answered(linear, x=x)["y"], expected, rtol=1e-6)


@pytest.mark.parametrize(
    "tensors",
    [
        {"x": np.ones((2, 5), np.float32)},
        {"x": np.ones((2, 4, 1), np.float32)},
        {"x": np.ones((2, 4))},
        {"x": np.array([[b"a"] * 4], object)},
        {"z": np.ones((2, 4), np.float32)},
        {"x": np.ones((0, 4), np.float32)},
        {"x": np.float32(1)},
        {"x": np.ones((2, 4), np.float32), "z": np.ones((3, 4))},
    ],
)
def test_what_does_not_fit_is_named(linear: Path, tensors: Any) -> None:
    with pytest.raises(InvalidInputError) as refused:
        answered(linear, **tensors)
    assert sentence(str(refused.value))


def test_a_batch_over_the_limit_is_refused(linear: Path) -> None:
    with pytest.raises(LimitExceededError):
        answered(linear, most=2, x=np.ones((3, 4), np.float32))


def test_rows_that_influence_one_another_are_not_batched(tmp_path: Path) -> None:
    nodes = [
        ("ReduceMean", ["x"], ["m"], {"axes": [0], "keepdims": 1}),
        ("Sub", ["x", "m"], ["y"], {}),
    ]
    folder = written(tmp_path, nodes, [("x", T.FLOAT, ["n", 2])], [("y", T.FLOAT, ["n", 2])])
    assert not is_batched(folder)
    x = np.array([[0, 1], [2, 3], [4, 8]], np.float32)
    np.testing.assert_allclose(answered(folder, x=x)["y"], x - x.mean(axis=0))


def test_batched_may_be_said_in_the_manifest(linear: Path) -> None:
    (linear / "model.toml").write_text('family = "tensors"\n[parameters]\nbatched = false\n')
    assert not is_batched(linear)
    x = np.ones((2, 4), np.float32)
    assert answered(linear, x=x)["y"].shape == (2, 3)


def test_a_graph_whose_first_axis_is_fixed_is_not_batched(tmp_path: Path) -> None:
    nodes = [("Add", ["x", "x"], ["y"], {})]
    said = 'family = "tensors"\n[parameters]\nbatched = true\n'
    shape = [4, 2]
    folder = written(tmp_path, nodes, [("x", T.INT32, shape)], [("y", T.INT32, shape)])
    assert not is_batched(folder)
    assert answered(folder, x=np.ones((4, 2), np.int32))["y"].tolist() == [[2, 2]] * 4
    (folder / "model.toml").write_text(said)
    with pytest.raises(InferenceError, match="batched"):
        opened(folder)


def test_strings_bools_and_half_floats(tmp_path: Path) -> None:
    nodes = [
        ("Identity", ["s"], ["t"], {}),
        ("Cast", ["b"], ["i"], {"to": T.INT8}),
        ("Add", ["h", "h"], ["hh"], {}),
    ]
    folder = written(
        tmp_path,
        nodes,
        [("s", T.STRING, ["n", "k"]), ("b", T.BOOL, ["n"]), ("h", T.FLOAT16, ["n", 1])],
        [("t", T.STRING, ["n", "k"]), ("i", T.INT8, ["n"]), ("hh", T.FLOAT16, ["n", 1])],
    )
    assert is_batched(folder)
    strings = np.array([[b"a", "你好".encode()], [b"", b"x\0y"]], object)
    found = answered(
        folder, s=strings, b=np.array([True, False]), h=np.array([[1.5], [2]], np.float16)
    )
    assert found["t"].tolist() == strings.tolist()
    assert found["i"].tolist() == [1, 0]
    assert found["hh"].tolist() == [[3], [4]]
    broken = np.array([[b"\xff"]], object)
    with pytest.raises(InvalidInputError, match="UTF-8"):
        answered(folder, s=broken, b=np.array([True]), h=np.ones((1, 1), np.float16))


def test_only_equal_shapes_share_a_batch(tmp_path: Path) -> None:
    folder = written(
        tmp_path,
        [("ReduceSum", ["x", "axis"], ["y"], {"keepdims": 0})],
        [("x", T.FLOAT, ["n", "k"])],
        [("y", T.FLOAT, ["n"])],
        axis=np.array([1]),
    )
    family, _ = opened(folder)
    signature = family.traits.signature
    assert signature is not None
    assert signature.is_batched

    def group(width: int) -> Any:
        (item,) = items_of({"x": np.ones((1, width), np.float32)}, signature, 1)
        return family.processor.preprocess(item).group

    assert group(2) == group(2) != group(3)


def test_sizes_are_tried_until_the_graph_runs(tmp_path: Path) -> None:
    nodes = [("Conv", ["x", "w"], ["y"], {})]
    folder = written(
        tmp_path,
        nodes,
        [("x", T.FLOAT, ["n", 1, "h", "w_"])],
        [("y", T.FLOAT, ["n", 1, "a", "b"])],
        w=np.ones((1, 1, 40, 40), np.float32),
    )
    assert is_batched(folder)
    shape = (1, 1, 40, 41)
    assert answered(folder, x=np.ones(shape, np.float32))["y"].shape == (1, 1, 1, 2)


def test_a_graph_that_runs_at_no_size_asks_for_an_example(tmp_path: Path) -> None:
    nodes = [("MatMul", ["a", "b"], ["c"], {})]
    inputs = [("a", T.FLOAT, ["n", 3, "k"]), ("b", T.FLOAT, ["n", 5, 7])]
    folder = written(tmp_path, nodes, inputs, [("c", T.FLOAT, ["n", 3, 7])])
    with pytest.raises(InferenceError, match="example"):
        opened(folder)
    said = 'family = "tensors"\n[parameters.example]\na = [3, 5]\n'
    (folder / "model.toml").write_text(said)
    assert is_batched(folder)


def test_outputs_over_the_limit_are_refused(tmp_path: Path) -> None:
    nodes = [("Tile", ["x", "times"], ["y"], {})]
    said = 'family = "tensors"\n[parameters]\nmax_output_bytes = 1000\n'
    folder = written(
        tmp_path,
        nodes,
        [("x", T.FLOAT, ["n", "k"])],
        [("y", T.FLOAT, ["n", "m"])],
        said,
        times=np.array([1, 100]),
    )
    assert answered(folder, x=np.ones((1, 1), np.float32))["y"].shape == (1, 100)
    for shape in ((1, 3), (3, 1)):
        with pytest.raises(LimitExceededError, match="max_output_bytes"):
            answered(folder, x=np.ones(shape, np.float32))


def test_types_that_numpy_does_not_have_are_refused(tmp_path: Path) -> None:
    nodes = [("Identity", ["x"], ["y"], {})]
    folder = written(tmp_path, nodes, [("x", T.BFLOAT16, ["n"])], [("y", T.BFLOAT16, ["n"])])
    with pytest.raises(ServiceError, match="bfloat16"):
        opened(folder)


def test_a_lone_graph_is_not_served_as_tensors_unless_its_manifest_says_so(linear: Path) -> None:
    (linear / "model.toml").unlink()
    with pytest.raises(ModelLoadError, check=sentence):
        ModelRepository(linear.parent).open("net", None, None, "cpu")


async def test_a_repository_serves_it(linear: Path) -> None:
    files = await asyncio.to_thread(ModelRepository(linear.parent).open, "net", None, None, "cpu")
    assert files.manifest.parameters["inputs"] == {"x": {"dtype": "float32", "shape": [-1, 4]}}
