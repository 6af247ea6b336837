"""The part of a graph that one output needs."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from service.errors import ModelLoadError
from service.repository.onnx_file.cut import GraphPart, disjoint_parts
from service.repository.onnx_file.reader import read_onnx, read_signature
from service.runtime.providers import Device
from service.runtime.session import OrtSession
from service.transforms.protobuf import field_header, fields
from tests.sentences import sentence

TOWERS = {"text": "words", "image": "picture"}


def value(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64])


def weight(name: str, scale: float) -> TensorProto:
    return numpy_helper.from_array(np.eye(64, dtype=np.float32) * scale, name)


def towers(path: Path, *more: onnx.NodeProto, external: str | None = None) -> Path:
    """Write words = 2 ids, picture = 3 pixels and match = words + picture, and what is added."""
    nodes = [
        helper.make_node("MatMul", ["ids", "w2"], ["words"]),
        helper.make_node("MatMul", ["pixels", "w3"], ["picture"]),
        helper.make_node("Add", ["words", "picture"], ["match"]),
        *more,
    ]
    outputs = ["match", "words", "picture", *(node.output[0] for node in more)]
    graph = helper.make_graph(
        nodes, "g", [value("ids"), value("pixels")], [value(name) for name in outputs],
        [weight("w2", 2), weight("w3", 3)], value_info=[value("inner")],
    )  # fmt: skip
    built = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    helper.set_model_props(built, {"made_by": "a test"})
    onnx.save(
        built, path, save_as_external_data=external is not None, location=external,
        size_threshold=64,
    )  # fmt: skip
    return path


def test_a_part_holds_what_its_output_needs_and_nothing_else(tmp_path: Path) -> None:
    graph = towers(tmp_path / "m.onnx")
    parts = disjoint_parts(graph, read_onnx(graph), TOWERS)
    assert set(parts) == {"text", "image"}
    model = onnx.load_from_string(parts["text"].content())
    onnx.checker.check_model(model, full_check=True)
    assert [one.name for one in model.graph.input] == ["ids"]
    assert [one.name for one in model.graph.output] == ["words"]
    assert [one.name for one in model.graph.initializer] == ["w2"]
    assert [node.output[0] for node in model.graph.node] == ["words"]
    assert not model.graph.value_info


def test_a_part_keeps_what_is_said_of_the_model(tmp_path: Path) -> None:
    graph = towers(tmp_path / "m.onnx")
    (tmp_path / "part.onnx").write_bytes(GraphPart(graph, "words").content())
    part, whole = read_signature(tmp_path / "part.onnx"), read_signature(graph)
    assert (part.opsets, part.ir_version) == (whole.opsets, whole.ir_version)
    assert part.metadata == {"made_by": "a test"}


@pytest.mark.parametrize("external", [None, "weights.bin"])
def test_a_part_computes_what_the_whole_does(external: str | None, tmp_path: Path) -> None:
    graph = towers(tmp_path / "m.onnx", external=external)
    feeds = {"ids": np.ones((2, 64), np.float32), "pixels": np.ones((3, 64), np.float32)}
    for key, name, times in (("text", "ids", 2), ("image", "pixels", 3)):
        session = OrtSession(disjoint_parts(graph, read_onnx(graph), TOWERS)[key], Device("cpu"), 1)
        assert list(session.inputs) == [name]
        assert repr(session) == "<OrtSession m.onnx on cpu>"
        np.testing.assert_array_equal(
            session.run({name: feeds[name]})[TOWERS[key]], feeds[name] * times
        )


def test_what_a_nested_graph_takes_from_around_it_is_needed(tmp_path: Path) -> None:
    branches = [
        helper.make_graph([helper.make_node("Identity", [name], [f"{name}_"])], "b", [], [inner])
        for name, inner in (("words", value("words_")), ("ids", value("ids_")))
    ]
    graph = towers(
        tmp_path / "m.onnx",
        helper.make_node("Constant", [], ["yes"], value=numpy_helper.from_array(np.array(True))),
        helper.make_node(
            "If", ["yes"], ["chosen"], then_branch=branches[0], else_branch=branches[1]
        ),
    )
    model = onnx.load_from_string(GraphPart(graph, "chosen").content())
    assert [one.name for one in model.graph.input] == ["ids"]
    assert [node.op_type for node in model.graph.node] == ["MatMul", "Constant", "If"]


def test_an_input_that_has_a_value_in_the_file_is_none(tmp_path: Path) -> None:
    graph = towers(tmp_path / "m.onnx")
    model = onnx.load(graph)
    model.graph.input.append(value("w2"))  # as graphs of IR version 3 declare their weights
    for node in model.graph.node[:2]:
        node.input[1] = "w2"
    onnx.save(model, graph)
    assert set(disjoint_parts(graph, read_onnx(graph), TOWERS)) == {"text", "image"}


def test_parts_that_share_an_input_are_not_taken_apart(tmp_path: Path) -> None:
    graph = towers(tmp_path / "m.onnx", helper.make_node("Add", ["words", "picture"], ["both"]))
    assert disjoint_parts(graph, read_onnx(graph), {"text": "words", "image": "both"}) == {}


def test_a_graph_without_one_of_the_outputs_is_not_taken_apart(tmp_path: Path) -> None:
    graph = towers(tmp_path / "m.onnx")
    assert disjoint_parts(graph, read_onnx(graph), {"text": "words", "image": "pixels"}) == {}


def test_nodes_that_wait_for_one_another_do_not_hold_it_up(tmp_path: Path) -> None:
    graph = towers(
        tmp_path / "m.onnx",
        helper.make_node("Add", ["ids", "tail"], ["head"]),
        helper.make_node("Add", ["ids", "head"], ["tail"]),
    )
    model = onnx.load_from_string(GraphPart(graph, "head").content())
    assert [node.output[0] for node in model.graph.node] == ["head", "tail"]


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\x09",
        b"\x3a\x00\x3a\x00",
        b"\x3a\x05\x0a",
    ],
)
def test_what_is_not_one_graph_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(content)
    with pytest.raises(ModelLoadError, check=sentence):
        GraphPart(tmp_path / "m.onnx", "y").content()


@given(st.integers(1, 1 << 28), st.binary(max_size=300), st.binary(max_size=3))
def test_a_header_is_read_as_what_it_was_written_for(
    number: int, content: bytes, more: bytes
) -> None:
    header = field_header(number, len(content))
    message = b"\x08\x01" + header + content + b"\x0a" + bytes([len(more)]) + more
    found = list(fields(message, 0, len(message)))
    assert found[1] == (number, 2, 2, 2 + len(header), 2 + len(header) + len(content))
    assert [each[0] for each in found] == [1, number, 1]
