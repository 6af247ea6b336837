from contextlib import suppress
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from service.errors import ModelLoadError
from service.repository.onnx_file.graph_validation import external_files
from tests.sentences import sentence


def external(name: str, location: str) -> TensorProto:
    tensor = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[1000])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, "offset": "0", "length": "4000"}.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


def model(*nodes: onnx.NodeProto, **parts: list[object]) -> onnx.ModelProto:
    inside = numpy_helper.from_array(np.zeros((64, 64), np.float32), "inside")
    parts["initializer"] = [inside, *parts.get("initializer", [])]
    graph = helper.make_graph(
        [helper.make_node("Identity", ["inside"], ["y"]), *nodes],
        "g",
        [],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [64, 64])],
        **parts,
    )
    return helper.make_model(graph)


def subgraph(location: str) -> onnx.GraphProto:
    return helper.make_graph([], "then", [], [], [external("w", location)])


def sparse(location: str) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=external("s", location), dims=[1000])


def with_functions(location: str) -> onnx.ModelProto:
    node = helper.make_node("Constant", [], ["y"], value=external("w", location))
    function = helper.make_function(
        "own", "F", [], ["y"], [node], [helper.make_opsetid("", 17)], []
    )
    default = helper.make_attribute("default", external("d", "of_default"))
    function.attribute_proto.append(default)
    built = model()
    built.functions.append(function)
    return built


def with_training(location: str) -> onnx.ModelProto:
    built = model()
    info = built.training_info.add()
    info.initialization.CopyFrom(subgraph(location))
    info.algorithm.CopyFrom(subgraph("of_algorithm"))
    return built


def attribute_of(kind: AttributeProto.AttributeType, location: str) -> onnx.NodeProto:
    node = helper.make_node("Any", [], ["z"])
    attribute = node.attribute.add(name="a", type=kind)
    match kind:
        case AttributeProto.GRAPHS:
            attribute.graphs.append(subgraph(location))
        case AttributeProto.TENSORS:
            attribute.tensors.append(external("w", location))
        case AttributeProto.SPARSE_TENSOR:
            attribute.sparse_tensor.CopyFrom(sparse(location))
        case AttributeProto.SPARSE_TENSORS:
            attribute.sparse_tensors.append(sparse(location))
        case AttributeProto.GRAPH:
            attribute.g.CopyFrom(subgraph(location))
        case AttributeProto.TENSOR:
            attribute.t.CopyFrom(external("w", location))
    return node


def write(folder: Path, built: onnx.ModelProto) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(built.SerializeToString())
    return path


def test_a_graph_with_its_weights_inside_has_no_other_files(tmp_path: Path) -> None:
    assert external_files(write(tmp_path, model()), tmp_path, "m/1") == []


def test_what_the_onnx_package_writes_is_found_once(tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(np.zeros(1000, np.float32), f"w{i}") for i in range(3)]
    onnx.save_model(
        model(initializer=weights),
        str(tmp_path / "model.onnx"),
        save_as_external_data=True,
        location="model.onnx_data",
    )
    found = external_files(tmp_path / "model.onnx", tmp_path, "m/1")
    assert found == [tmp_path / "model.onnx_data"]


def test_data_beside_a_graph_in_a_subfolder_is_found_there(tmp_path: Path) -> None:
    folder = tmp_path / "onnx"
    folder.mkdir()
    (folder / "w").write_bytes(b"w")
    graph = write(folder, model(initializer=[external("e", "w")]))
    assert external_files(graph, tmp_path, "m/1") == [folder / "w"]


KINDS = [
    AttributeProto.TENSOR,
    AttributeProto.TENSORS,
    AttributeProto.GRAPH,
    AttributeProto.GRAPHS,
    AttributeProto.SPARSE_TENSOR,
    AttributeProto.SPARSE_TENSORS,
]


@pytest.mark.parametrize(
    ("built", "also"),
    [
        pytest.param(model(initializer=[external("e", "hidden")]), [], id="initialiser"),
        pytest.param(model(sparse_initializer=[sparse("hidden")]), [], id="sparse initialiser"),
        *(
            pytest.param(model(attribute_of(kind, "hidden")), [], id=f"attribute {kind}")
            for kind in KINDS
        ),
        pytest.param(with_functions("hidden"), ["of_default"], id="function"),
        pytest.param(with_training("hidden"), ["of_algorithm"], id="training"),
    ],
)
def test_a_location_is_found_wherever_a_tensor_can_be(
    tmp_path: Path, built: onnx.ModelProto, also: list[str]
) -> None:
    names = ["hidden", *also]
    for name in names:
        (tmp_path / name).write_bytes(b"w")
    found = external_files(write(tmp_path, built), tmp_path, "m/1")
    assert [path.name for path in found] == sorted(names)


def test_a_location_is_found_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "deep").write_bytes(b"w")
    graph = subgraph("deep")
    for _ in range(25):  # protobuf itself writes no more than 100 levels, and this takes 3 each
        node = helper.make_node("If", ["c"], ["y"], then_branch=graph)
        graph = helper.make_graph([node], "outer", [], [])
    built = model(helper.make_node("If", ["c"], ["y"], then_branch=graph))
    assert external_files(write(tmp_path, built), tmp_path, "m/1") == [tmp_path / "deep"]


def field(number: int, content: bytes) -> bytes:
    size, prefix = len(content), bytearray([number << 3 | 2])
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes(prefix) + bytes([size]) + content


def test_a_hostile_depth_does_not_exhaust_the_stack(tmp_path: Path) -> None:
    graph = b""
    for _ in range(5000):  # a graph in an attribute in a node, again and again
        graph = field(1, field(5, field(6, graph)))
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, graph))
    assert external_files(path, tmp_path, "m/1") == []


def test_a_tag_written_in_more_bytes_than_needed_hides_nothing(tmp_path: Path) -> None:
    entry = field(1, b"location") + field(2, b"../secret")
    tensor = field(13, entry)
    # Readers that drop the bits above 32 of a tag see field 5, kind 2: an initialiser.
    graph = bytes([0xAA, 0x80, 0x80, 0x80, 0x70, len(tensor)]) + tensor
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, graph))
    with pytest.raises(ModelLoadError, match="secret"):
        external_files(path, tmp_path, "m/1")


def test_the_last_of_two_names_counts_as_in_protobuf(tmp_path: Path) -> None:
    entry = field(1, b"offset") + field(1, b"location") + field(2, b"a") + field(2, b"../b")
    path = tmp_path / "model.onnx"
    path.write_bytes(field(7, field(5, field(13, entry))))
    with pytest.raises(ModelLoadError, match=r"\.\./b"):
        external_files(path, tmp_path, "m/1")


@pytest.mark.parametrize(
    "location",
    [
        "../outside",
        "sub/../../outside",
        "/etc/passwd",
        "",
        ".",
        "C:\\weights",
        "..\\outside",
        "*/_ORT_MEM_ADDR_/*",
        "nul\0byte",
    ],
)
def test_a_location_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    (tmp_path / "outside").write_bytes(b"w")
    graph = write(folder, model(initializer=[external("e", location)]))
    with pytest.raises(ModelLoadError, check=sentence):
        external_files(graph, folder, "m/1")


def test_a_link_that_leaves_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    (tmp_path / "m" / "weights").write_bytes(b"w")
    (folder / "weights").symlink_to(tmp_path / "m" / "weights")
    graph = write(folder, model(initializer=[external("e", "weights")]))
    with pytest.raises(ModelLoadError, check=sentence):
        external_files(graph, folder, "m/1")


def test_data_that_is_not_there_is_named(tmp_path: Path) -> None:
    graph = write(tmp_path, model(initializer=[external("e", "absent.bin")]))
    with pytest.raises(ModelLoadError, check=sentence):
        external_files(graph, tmp_path, "m/1")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"version https://git-lfs.github.com/spec/v1\n", id="a git-lfs pointer"),
        pytest.param(field(7, b"abc")[:-1], id="cut in a field"),
        pytest.param(b"\x3a", id="cut in a size"),
        pytest.param(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", id="an endless number"),
        pytest.param(b"\x39\x00", id="cut in a fixed number"),
        pytest.param(b"\x3b\x3c", id="an obsolete kind"),
        pytest.param(
            field(7, field(5, field(13, field(1, b"location") + field(2, b"x" * 5000)))),
            id="a very long name",
        ),
        pytest.param(
            field(7, field(5, field(13, field(1, b"location") + field(2, b"\xff")))),
            id="a name that is no text",
        ),
    ],
)
def test_what_is_no_graph_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, check=sentence):
        external_files(path, tmp_path, "m/1")


@given(st.binary(min_size=1, max_size=200))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.onnx"
    path.write_bytes(field(7, field(5, data)))
    with suppress(ModelLoadError):
        assert external_files(path, path.parent, "m/1") == []


def test_a_graph_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        external_files(tmp_path / "absent.onnx", tmp_path, "m/1")
