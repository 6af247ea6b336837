"""Ways to break one file, or one thing in a file, of a version."""

import os
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import onnx
from onnx import TensorProto, helper
from tokenizers import Tokenizer


def edit(name: str, old: str, new: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        text = (folder / name).read_text()
        assert old in text
        (folder / name).write_text(text.replace(old, new))

    return spoil


def write(name: str, content: str | bytes) -> Callable[[Path], object]:
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data)


def cut(name: str, share: float) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        path = folder / name
        os.truncate(path, int(path.stat().st_size * share))

    return spoil


def remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def folder_at(name: str) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        (folder / name).mkdir()

    return spoil


def link(name: str, target: str = "") -> Callable[[Path], object]:
    """A link to a copy of the file outside the repository, or to a target as it stands."""

    def spoil(folder: Path) -> None:
        outside = folder.parents[2] / "outside"
        outside.mkdir(exist_ok=True)
        copy = outside / Path(name).name
        shutil.move(folder / name, copy)
        (folder / name).symlink_to(target or copy)

    return spoil


def graph(change: Callable[[onnx.ModelProto], object]) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        change(model)
        (folder / "model.onnx").write_bytes(model.SerializeToString())

    return spoil


def data_at(
    location: str, data: Callable[[Path], object] | None = None, **said: str
) -> Callable[[Path], object]:
    """Weights that the graph says are in another file."""

    def spoil(folder: Path) -> None:
        model = onnx.load(folder / "model.onnx")
        tensor = model.graph.initializer[0]
        size = len(tensor.raw_data)
        (folder.parent / "2.weights").write_bytes(tensor.raw_data)
        shutil.copy(folder.parent / "2.weights", folder / "weights.data")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        entries = {"location": location, "offset": "0", "length": str(size)} | said
        for key, value in entries.items():
            if value != "none":
                tensor.external_data.add(key=key, value=value)
        (folder / "model.onnx").write_bytes(model.SerializeToString())
        if data is not None:
            data(folder)

    return spoil


def dims(*sizes: int) -> Callable[[onnx.ModelProto], object]:
    def change(model: onnx.ModelProto) -> None:
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(sizes)

    return change


def node(model: onnx.ModelProto, op: str, domain: str = "", opset: int = 0) -> None:
    """Put an operator before the first one."""
    first = model.graph.node[0]
    model.graph.node.insert(0, helper.make_node(op, [first.input[0]], ["odd"], domain=domain))
    model.graph.node[1].input[0] = "odd"
    if domain and opset:
        model.opset_import.append(helper.make_opsetid(domain, opset))


def fill(model: onnx.ModelProto) -> None:
    """A constant that is small in the file and of terabytes in memory."""
    node(model, "ConstantOfShape")
    shape = helper.make_tensor("size", TensorProto.INT64, [3], [1 << 14, 1 << 14, 1 << 14])
    model.graph.initializer.append(shape)
    model.graph.node[0].input[0] = "size"
    model.graph.node[1].input[0] = "pixel_values"


def opset(version: int) -> Callable[[onnx.ModelProto], object]:
    return lambda model: setattr(model.opset_import[0], "version", version)


def input_of(dtype: int) -> Callable[[onnx.ModelProto], object]:
    """The ids, and what is looked up with them, in a type that no family feeds."""

    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = dtype
        cast = helper.make_node("Cast", ["input_ids"], ["odd"], to=TensorProto.INT64)
        model.graph.node.insert(0, cast)
        model.graph.node[1].input[1] = "odd"

    return change


def scores_of_three_axes(model: onnx.ModelProto) -> None:
    model.graph.node[-1].attribute[1].i = 1
    dimension = model.graph.output[0].type.tensor_type.shape.dim.add()
    dimension.dim_value = 2
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1


def tokenizer_with(words: int) -> Callable[[Path], object]:
    def spoil(folder: Path) -> None:
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.add_tokens([f"word{number}" for number in range(words)])
        tokenizer.save(str(folder / "tokenizer.json"))

    return spoil


def save(model: onnx.ModelProto) -> Callable[[Path], object]:
    return write("model.onnx", model.SerializeToString())


def both(*steps: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda folder: [step(folder) for step in steps]


def only_pickles(folder: Path) -> None:
    for path in list(folder.iterdir()):
        if path.suffix in {".onnx", ".toml"}:
            path.unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))


HTML = "<!DOCTYPE html>\n<html><body>404 Not Found</body></html>\n"
