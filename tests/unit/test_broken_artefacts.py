"""What is broken in a version is said in a sentence, at once, while the old one goes on answering.

Every case goes through the real registry, repository and loader.
"""

import io
import json
import os
import pickle
import shutil
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image as Picture
from tokenizers import Tokenizer

from service.cache.base import NullBackend
from service.cache.responses import ResponseCache
from service.errors import ModelLoadError
from service.loader import DeviceRuntime, Loader
from service.pipeline import CallOptions
from service.registry import Registry, RegistryOptions
from service.repository.repository import ModelRepository
from service.runtime.devices import Device
from service.tasks import ClassifyItem, Content, Image, Task, Text
from tests.lamps import classifier, make_repository
from tests.words import add_export, add_words, reader

pytestmark = pytest.mark.looptime(False)  # sessions run on real threads

SECONDS = 2.0
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:ab12\nsize 437985387\n"


@asynccontextmanager
async def registry_of(root: Path) -> AsyncIterator[Registry]:
    runtime = DeviceRuntime(Device("cpu"), 2)
    loader = Loader(runtime, ResponseCache(NullBackend(), enabled=False), warm_up_seconds=0.05)
    registry = Registry(ModelRepository(root), loader, RegistryOptions("cpu", models=[]))
    try:
        yield registry
        await registry.stop(grace=0)
    finally:
        runtime.close()


async def best(registry: Registry, model: str, content: Content) -> str:
    modality = "text" if isinstance(content, Text) else "image"
    pipeline = registry.find(Task.CLASSIFY, modality, model, 1)
    outcome = await pipeline.answer(ClassifyItem(content), CallOptions())
    assert not isinstance(outcome.answer, Exception)
    return str(outcome.answer.labels[0].name)


def picture() -> bytes:
    file = io.BytesIO()
    Picture.new("L", (2, 2), 255).save(file, "PNG")
    return file.getvalue()


ASKED: dict[str, tuple[Content, str]] = {
    "lamps": (Image(picture()), "light"),
    "words": (Text("c c"), "high"),
    "exported": (Text("c c"), "high"),
}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sound")
    make_repository(root)
    add_export(root)
    add_words(root)
    return root


@dataclass(frozen=True)
class Case:
    name: str
    model: str
    spoil: Callable[[Path], object]
    """Breaks the folder of version 2, a copy of version 1."""
    said: str
    """What the refusal must match."""


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

CASES = [
    Case("data at an absolute path", "lamps", data_at("/etc/passwd"), "not the name of a file"),
    Case("data above the folder", "lamps", data_at("../2.weights"), "not the name of a file"),
    Case(
        "data through a link out",
        "lamps",
        data_at("weights.data", link("weights.data")),
        "weights.data is a link out of the repository",
    ),
    Case(
        "data that is missing", "lamps", data_at("gone.data"), "the file gone.data does not exist"
    ),
    Case(
        "data that is cut short",
        "lamps",
        data_at("weights.data", cut("weights.data", 0.5)),
        r"model.onnx.*weights.data.*(16|32).*bytes",
    ),
    Case(
        "data of 0 bytes",
        "lamps",
        data_at("weights.data", cut("weights.data", 0)),
        "weights.data is empty",
    ),
    Case(
        "data with a huge length",
        "lamps",
        data_at("weights.data", length=str(1 << 50)),
        "another number of bytes in weights.data than its 32",
    ),
    Case(
        "data with a huge offset",
        "lamps",
        data_at("weights.data", offset=str(1 << 62)),
        "weights.data.*bytes",
    ),
    Case(
        "data with a negative offset",
        "lamps",
        data_at("weights.data", offset="-8"),
        "weights.data.*offset",
    ),
    Case(
        "data that is a Git LFS pointer",
        "lamps",
        data_at("weights.data", write("weights.data", POINTER)),
        "weights.data is a Git LFS pointer, not the file itself",
    ),
    Case(
        "a tensor of another size than its data",
        "lamps",
        both(data_at("weights.data"), graph(dims(1 << 20, 1 << 20))),
        "model.onnx.*weights",
    ),
    Case(
        "a graph linked from outside",
        "lamps",
        link("model.onnx"),
        "model.onnx is a link out of the repository",
    ),
    Case(
        "a manifest linked from outside",
        "lamps",
        link("model.toml"),
        "model.toml is a link out of the repository",
    ),
    Case(
        "goldens linked from outside",
        "lamps",
        link("goldens.json"),
        "goldens.json is a link out of the repository",
    ),
    Case(
        "a golden image linked from outside",
        "lamps",
        link("goldens/60.png"),
        "goldens/60.png is a link out of the repository",
    ),
    Case(
        "a tokenizer linked from outside",
        "words",
        link("tokenizer.json"),
        "tokenizer.json is a link out of the repository",
    ),
    Case(
        "a config linked from outside",
        "exported",
        link("config.json"),
        "config.json is a link out of the repository",
    ),
    Case("a link to nothing", "lamps", link("model.onnx", "nowhere"), "model.onnx does not exist"),
    Case("a link to itself", "lamps", link("model.onnx", "model.onnx"), "model.onnx"),
    Case(
        "an operator of an unknown domain",
        "lamps",
        graph(lambda model: node(model, "Shiny", "com.example", 1)),
        r"model.onnx.*com\.example.*Shiny.*custom operators",
    ),
    Case(
        "an operator that ONNX has not",
        "lamps",
        graph(lambda model: node(model, "Shiny")),
        "model.onnx.*Shiny",
    ),
    Case("an opset too new", "lamps", graph(opset(99)), "model.onnx.*opset 99.*(26|27|28)"),
    Case(
        "an IR version too new",
        "lamps",
        graph(lambda m: setattr(m, "ir_version", 99)),
        "IR version 99",
    ),
    Case("no opset", "lamps", graph(lambda m: m.ClearField("opset_import")), "model.onnx.*opset"),
    Case(
        "a picture for a graph",
        "lamps",
        write("model.onnx", b"\xff\xd8\xff\xe0\x00\x10JFIF" + bytes(99)),
        "model.onnx is a JPEG",
    ),
    Case("a page for a graph", "lamps", write("model.onnx", HTML), "model.onnx is an HTML page"),
    Case(
        "a pointer for a graph",
        "lamps",
        write("model.onnx", POINTER),
        "model.onnx is a Git LFS pointer, not the file itself",
    ),
    Case(
        "a zip for a graph",
        "lamps",
        write("model.onnx", b"PK\x03\x04" + bytes(99)),
        "model.onnx is a (zip|ZIP)",
    ),
    Case(
        "a pickle for a graph",
        "lamps",
        write("model.onnx", pickle.dumps({"a": [1] * 99})),
        "model.onnx is a pickle",
    ),
    Case(
        "noise for a graph",
        "lamps",
        write("model.onnx", os.urandom(500)),
        "model.onnx is not an ONNX graph",
    ),
    Case(
        "zeroes for a graph",
        "lamps",
        write("model.onnx", bytes(500)),
        "model.onnx is not an ONNX graph",
    ),
    *(
        Case(
            f"a graph cut to {share:.0%}",
            "lamps",
            cut("model.onnx", share),
            "model.onnx is not an ONNX graph.*cut short",
        )
        for share in (0.2, 0.5, 0.9)
    ),
    Case("a graph of 0 bytes", "lamps", cut("model.onnx", 0), "model.onnx is empty"),
    Case(
        "a graph with an empty graph",
        "lamps",
        write("model.onnx", b"\x08\x08\x3a\x00\x42\x02\x10\x11"),
        "model.onnx",
    ),
    Case("a tokenizer of 0 bytes", "words", cut("tokenizer.json", 0), "tokenizer.json is empty"),
    Case("a tokenizer cut short", "words", cut("tokenizer.json", 0.7), "tokenizer.json"),
    Case(
        "a pointer for a tokenizer",
        "words",
        write("tokenizer.json", POINTER),
        "tokenizer.json is a Git LFS pointer",
    ),
    Case(
        "a page for a tokenizer",
        "words",
        write("tokenizer.json", HTML),
        "tokenizer.json is an HTML page",
    ),
    Case(
        "another JSON for a tokenizer",
        "words",
        write("tokenizer.json", "{}"),
        "tokenizer.json is no tokenizer",
    ),
    Case("no tokenizer", "words", remove("tokenizer.json"), "tokenizer.json does not exist"),
    Case(
        "a folder for a tokenizer",
        "words",
        folder_at("tokenizer.json"),
        "tokenizer.json is a folder",
    ),
    Case("a config of 0 bytes", "exported", cut("config.json", 0), "config.json is empty"),
    Case("a config cut short", "exported", cut("config.json", 0.5), "config.json is not JSON"),
    Case(
        "a pointer for a config",
        "exported",
        write("config.json", POINTER),
        "config.json is a Git LFS pointer",
    ),
    Case(
        "a list for a config",
        "exported",
        write("config.json", "[1]"),
        "config.json must hold a JSON object",
    ),
    Case(
        "a deeply nested config",
        "exported",
        write("config.json", "[" * 200_000),
        "config.json is not JSON",
    ),
    Case("a folder for a config", "exported", folder_at("config.json"), "config.json"),
    Case("only pickles", "lamps", only_pickles, r"pytorch_model\.bin.*export"),
    Case("a manifest of 0 bytes", "lamps", cut("model.toml", 0), "model.toml is empty"),
    Case("broken TOML", "lamps", write("model.toml", "task = "), "model.toml cannot be read"),
    Case(
        "a manifest in Latin-1",
        "lamps",
        write("model.toml", b'task = "\xe9"'),
        "model.toml cannot be read",
    ),
    Case("a folder for a manifest", "lamps", folder_at("model.toml"), "model.toml"),
    Case("a graph that is missing", "lamps", remove("model.onnx"), "model.onnx does not exist"),
    Case("a folder for a graph", "lamps", folder_at("model.onnx"), "model.onnx is a folder"),
    Case(
        "too few labels",
        "words",
        edit("model.toml", '["low", "high"]', '["low"]'),
        "2 scores for 1 label",
    ),
    Case(
        "too many labels",
        "words",
        edit("model.toml", '"high"]', '"high", "top"]'),
        "2 scores for 3 labels",
    ),
    Case(
        "too many labels of a head whose size the graph does not tell",
        "words",
        both(save(reader(fixed_head=False)), edit("model.toml", '"high"]', '"high", "top"]')),
        "2 scores for 3 labels",
    ),
    Case(
        "too many labels in config.json",
        "exported",
        edit("config.json", '"high"', '"high", "2": "top"'),
        "2 scores for 3 labels",
    ),
    Case(
        "too many labels of images",
        "lamps",
        edit("model.toml", '"light"]', '"light", "off"]'),
        "2 scores for 3 labels",
    ),
    Case(
        "a tokenizer with more words than the embedding",
        "words",
        tokenizer_with(5),
        "ids up to 8, and model.onnx knows 4 tokens",
    ),
    Case(
        "an embedding that is too small",
        "words",
        save(reader(rows=2)),
        "ids up to 3, and model.onnx knows 2 tokens",
    ),
    Case(
        "a padding id beyond the embedding",
        "words",
        edit("model.toml", "pad_id = 0", "pad_id = 9"),
        "pad_id give ids up to 9, and model.onnx knows 4",
    ),
    Case(
        "a graph of another kind of input",
        "words",
        save(classifier(0.0)),
        "wants 'pixel_values', which this family does not feed",
    ),
    Case(
        "a graph that reads texts for images",
        "lamps",
        save(reader()),
        "which this family does not feed|image",
    ),
    Case(
        "an image size that the graph does not take",
        "lamps",
        edit("model.toml", "image_size = [2, 2]", "image_size = [4, 4]"),
        "model.onnx takes 2 along axis 2 of pixel_values, and is fed 4",
    ),
    Case(
        "ids in a type that numpy has not",
        "words",
        graph(input_of(TensorProto.BFLOAT16)),
        "'input_ids' as bfloat16",
    ),
    Case("ids as texts", "words", graph(input_of(TensorProto.STRING)), "'input_ids' as string"),
    Case("scores of three axes", "words", graph(scores_of_three_axes), "scores of 3 axes"),
    Case(
        "texts longer than memory",
        "words",
        edit("model.toml", "max_length = 16", "max_length = 1000000000000"),
        "words/2: max_length is 1000000000000",
    ),
    Case(
        "images larger than memory",
        "lamps",
        edit("model.toml", "[2, 2]", "[1000000, 1000000]"),
        "lamps/2",
    ),
    Case("an image size below zero", "lamps", edit("model.toml", "[2, 2]", "[-2, 2]"), "lamps/2"),
    Case(
        "an axis with a name that is no text",
        "lamps",
        lambda folder: (folder / "model.onnx").write_bytes(
            (folder / "model.onnx").read_bytes().replace(b"batch", b"bat\xffh")
        ),
        "model.onnx names something in bytes that are no text",
    ),
    Case("a tensor of endless axes", "lamps", graph(dims(*[1] * 5000)), "says it has 5000 axes"),
    Case(
        "goldens of another task",
        "lamps",
        write(
            "goldens.json",
            json.dumps(
                {
                    "created_with": "x",
                    "items": [{"item": {"text": "a"}, "answer": {"translation": "b"}}],
                }
            ),
        ),
        "goldens.json.*translation",
    ),
    Case("goldens that are no JSON", "lamps", write("goldens.json", "{"), "goldens.json"),
    Case("goldens of 0 bytes", "lamps", write("goldens.json", ""), "goldens.json is empty"),
    Case(
        "a golden image that is missing",
        "lamps",
        remove("goldens/60.png"),
        "goldens/60.png does not exist",
    ),
    Case(
        "a golden image that is none",
        "lamps",
        write("goldens/60.png", POINTER),
        "goldens/60.png is a Git LFS pointer",
    ),
    Case(
        "a tensor that says it is huge",
        "lamps",
        graph(dims(1 << 40, 1 << 20)),
        "model.onnx.*weights",
    ),
    Case(
        "a tensor whose size overflows",
        "lamps",
        graph(dims(1 << 62, 1 << 62)),
        "model.onnx.*weights",
    ),
    Case("a tensor of a negative size", "lamps", graph(dims(-1, 4)), "model.onnx.*weights"),
    Case("a constant of terabytes", "lamps", graph(fill), "model.onnx"),
]


@pytest.fixture
def repository(sound: Path, tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    shutil.copytree(sound, root)
    return root


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_it_is_refused_in_a_sentence_at_once_while_the_old_version_answers(
    case: Case, repository: Path
) -> None:
    folder = repository / case.model / "2"
    shutil.copytree(repository / case.model / "1", folder)
    case.spoil(folder)
    content, label = ASKED[case.model]
    async with registry_of(repository) as registry:
        await registry.load(case.model, 1)
        started = time.perf_counter()
        with pytest.raises(ModelLoadError, match=case.said) as refused:
            await registry.load(case.model, 2)
        assert time.perf_counter() - started < SECONDS
        assert await best(registry, case.model, content) == label
    said = str(refused.value)
    assert str(repository.parent) not in said
    assert "\n" not in said
    assert len(said) < 400


@pytest.mark.parametrize("model", ASKED)
async def test_an_unspoilt_copy_of_the_same_version_loads(model: str, repository: Path) -> None:
    shutil.copytree(repository / model / "1", repository / model / "2")
    async with registry_of(repository) as registry:
        await registry.load(model, 1)
        assert (await registry.load(model, 2)).version == 2


@pytest.mark.parametrize("model", ASKED)
async def test_links_that_stay_in_the_repository_load(model: str, repository: Path) -> None:
    """As a cache of Hugging Face's has them: every name is a link to a blob."""
    folder, blobs = repository / model / "2", repository / ".blobs"
    shutil.copytree(repository / model / "1", folder)
    blobs.mkdir()
    linked = [path for path in folder.iterdir() if path.suffix in {".onnx", ".toml", ".json"}]
    for number, path in enumerate(linked):
        shutil.move(path, blobs / str(number))
        path.symlink_to(Path("../../.blobs") / str(number))
    async with registry_of(repository) as registry:
        assert (await registry.load(model, 2)).version == 2
