"""What may lie in a repository: bad folders, links of Kubernetes and of the hub, other formats."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from service.errors import ModelLoadError, ModelNotFoundError
from service.repository.repository import ModelRepository, Unusable
from tests.sentences import sentence

AddVersion = Callable[..., Path]


@pytest.fixture
def repository(root: Path) -> ModelRepository:
    return ModelRepository(root)


@contextmanager
def forbidden(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Iterator[None]:
    """Make a folder unreadable; root, as which tests may run, can list one of mode 000."""
    scandir, listdir = os.scandir, os.listdir

    def refuse(path: object) -> None:
        if str(path).startswith(str(folder)):
            raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(os, "scandir", lambda path=".": refuse(path) or scandir(path))
        patched.setattr(os, "listdir", lambda path=".": refuse(path) or listdir(path))
        yield


def reasons(repository: ModelRepository) -> dict[str, str]:
    return dict(repository.contents().unusable)


def test_a_folder_that_cannot_be_read_is_reported_and_hides_no_other(
    repository: ModelRepository,
    add_version: AddVersion,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_version()
    add_version("private")
    with forbidden(monkeypatch, root / "private"):
        assert repository.models() == ["topics"]
        assert reasons(repository) == {"private": "it cannot be read: Permission denied"}
        assert repository.open("topics").version == 1
        with pytest.raises(ModelLoadError, check=sentence):
            repository.open("private")
        found = repository.survey()
    assert [(one.model, isinstance(one, Unusable)) for one in found] == [
        ("private", True), ("topics", False)
    ]  # fmt: skip


def test_a_version_of_which_a_folder_cannot_be_read_is_broken(
    repository: ModelRepository,
    add_version: AddVersion,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (add_version() / "extra").mkdir()
    add_version("topics", "2")
    with (
        forbidden(monkeypatch, root / "topics" / "1" / "extra"),
        pytest.raises(ModelLoadError, check=sentence),
    ):
        repository.open("topics", 1)
    assert repository.open("topics", 2).version == 2


@pytest.mark.parametrize(
    "name", ["lost+found", ".ipynb_checkpoints", ".git", "__MACOSX", "..data", "__pycache__"]
)
def test_what_file_systems_and_tools_leave_is_passed_over(
    repository: ModelRepository, add_version: AddVersion, root: Path, name: str
) -> None:
    add_version()
    (root / name).mkdir()
    (root / "README.md").write_text("models")
    (root / "topics" / ".ipynb_checkpoints").mkdir()
    assert (repository.models(), reasons(repository)) == (["topics"], {})
    assert [one.model for one in repository.survey()] == ["topics"]


def test_links_that_lead_nowhere_out_or_in_a_circle_are_reported(
    repository: ModelRepository, add_version: AddVersion, root: Path, tmp_path: Path
) -> None:
    add_version("a").parent.rename(tmp_path / "a")
    (root / "gone").symlink_to(root / "nothing")
    (root / "round").symlink_to(root / "round")
    (root / "out").symlink_to(tmp_path / "a")
    (root / "version").mkdir()
    (root / "version" / "1").symlink_to(tmp_path / "a" / "1")
    (root / "lost").mkdir()
    (root / "lost" / "1").symlink_to(root / "nothing")
    assert reasons(repository) == {
        "gone": "it is a link that leads nowhere",
        "lost": "its version 1: it is a link that leads nowhere",
        "out": "it is a link out of the repository",
        "round": "it is a link that leads nowhere",
        "version": "its version 1: it is a link out of the repository",
    }


def test_names_that_are_not_utf_8_can_be_written(
    repository: ModelRepository, add_version: AddVersion, root: Path
) -> None:
    add_version()
    (root / os.fsdecode(b"caf\xe9")).mkdir()
    assert reasons(repository) == {r"caf\udce9": "this cannot be a model's name"}
    with pytest.raises(ModelNotFoundError):
        repository.open(r"caf\udce9")
    folder = add_version("odd")
    (folder / os.fsdecode(b"caf\xe9")).symlink_to("/")
    with pytest.raises(ModelLoadError, check=sentence) as refused:
        repository.open("odd")
    str(refused.value).encode()


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet.tflite",
        "saved_model.pb",
        "model.safetensors",
        "model.gguf",
        "model.zip",
    ],
)
def test_a_folder_of_another_format_says_what_it_holds_and_what_to_do(
    repository: ModelRepository, root: Path, name: str
) -> None:
    (root / "other").mkdir()
    (root / "other" / name).write_bytes(b"x")
    with pytest.raises(ModelLoadError, check=sentence):
        repository.open("other")
    (root / "other" / name).unlink()
    (root / "other" / "1").mkdir()
    (root / "other" / "1" / name).write_bytes(b"x")
    with pytest.raises(ModelLoadError, check=sentence):
        repository.open("other")


def project(folder: Path, revision: str) -> None:
    """Make of a folder's content what Kubernetes mounts: links to ..data, and that to the files."""
    (folder / revision).mkdir()
    for path in list(folder.iterdir()):
        if path.name != revision:
            path.rename(folder / revision / path.name)
    (folder / "..data").symlink_to(revision)
    for path in (folder / revision).iterdir():
        (folder / path.name).symlink_to(f"..data/{path.name}")


@pytest.mark.parametrize("mounted", ["topics/1", "topics", "."])
def test_a_volume_of_kubernetes_may_be_a_version_a_model_or_a_repository(
    repository: ModelRepository, add_version: AddVersion, root: Path, mounted: str
) -> None:
    folder = add_version()
    (folder / "extra").mkdir()
    (folder / "extra" / "words.txt").write_text("a")
    plain = repository.open("topics", 1)
    project(root / mounted, "..2026_11_30")
    assert (repository.models(), reasons(repository)) == (["topics"], {})
    assert repository.open("topics", 1).digest == plain.digest
    (root / mounted / "..data").unlink()
    (root / mounted / "..data").symlink_to("..2026_12_01")
    (root / mounted / "..2026_11_30").rename(root / mounted / "..2026_12_01")
    assert repository.open("topics", 1).digest == plain.digest


def test_hidden_folders_of_a_version_are_neither_followed_nor_counted(
    repository: ModelRepository, add_version: AddVersion, tmp_path: Path
) -> None:
    folder = add_version()
    plain = repository.open("topics").digest
    (folder / ".cache").mkdir()
    (folder / ".cache" / "link").symlink_to(tmp_path)
    assert repository.open("topics").digest == plain


def test_a_link_into_a_hidden_folder_is_followed_once(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    folder = add_version()
    (folder / "..data").mkdir()
    (folder / "..data" / "again").symlink_to("..")
    (folder / "..data" / "round").symlink_to(".")
    (folder / "sub").symlink_to("..data")
    with pytest.raises(ModelLoadError, check=sentence):
        repository.open("topics")


@pytest.fixture
def hub(tmp_path: Path, add_version: AddVersion, root: Path) -> Path:
    """A hub cache of one model, whose graph has its weights in a file of its own."""
    folder = add_version("plain")
    (folder / "model_int8.onnx").unlink()
    manifest = (folder / "model.toml").read_text()
    manifest = manifest.replace('[graphs.int8]\nmodel = "model_int8.onnx"\n', "")
    manifest = manifest.replace('[default_precision]\ncpu = "int8"\ncuda = "fp32"\n', "")
    (folder / "model.toml").write_text(manifest.replace("int8 = 0.05\n", ""))
    graph = onnx.load(folder / "model.onnx")
    weight = numpy_helper.from_array(np.arange(4, dtype=np.float32), "weight")
    graph.graph.initializer[0].CopyFrom(weight)
    onnx.save_model(
        graph, folder / "model.onnx", save_as_external_data=True, location="model.onnx_data",
        size_threshold=0,
    )  # fmt: skip
    cache = tmp_path / "hub" / "models--org--name"
    revision = "a" * 40
    snapshot = cache / "snapshots" / revision
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text(revision)
    (cache / "blobs").mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, cache / "blobs" / f"{number:064x}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:064x}")
    return cache


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (".", "models--org--name"),
        ("models--org--name", "models--org--name"),
        ("models--org--name/snapshots", "a" * 40),
    ],
)
def test_the_cache_of_the_hub_may_be_the_repository(
    hub: Path, root: Path, source: str, name: str
) -> None:
    repository = ModelRepository(hub.parent / source)
    assert repository.models() == [name]
    files = repository.open(name)
    assert files.digest == ModelRepository(root).open("plain").digest
    session = onnxruntime.InferenceSession(files.graphs["model"])
    (result,) = session.run(None, {"x": np.zeros(4, np.float32)})
    assert result.tolist() == [0, 1, 2, 3]


def test_a_link_of_a_snapshot_out_of_its_own_cache_is_refused(hub: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    snapshot = hub / "snapshots" / ("a" * 40)
    (snapshot / "vocab.txt").symlink_to(tmp_path / "secret")
    for source, name in ((hub, hub.name), (hub / "snapshots", "a" * 40)):
        with pytest.raises(ModelLoadError, check=sentence):
            ModelRepository(source).open(name)


def test_of_several_snapshots_refs_main_names_the_one(hub: Path) -> None:
    repository = ModelRepository(hub.parent)
    shutil.copytree(hub / "snapshots" / ("a" * 40), hub / "snapshots" / ("b" * 40), symlinks=True)
    assert repository.open(hub.name).folder.name == "a" * 40
    for main in ("c" * 40, "../../elsewhere"):
        (hub / "refs" / "main").write_text(main)
        assert reasons(repository) == {
            hub.name: "it has several snapshots, and refs/main names none of them"
        }


def test_a_link_to_a_blob_is_refused_where_the_repository_is_another(
    hub: Path, root: Path, repository: ModelRepository
) -> None:
    (root / "copy").mkdir()
    shutil.copytree(hub / "snapshots" / ("a" * 40), root / "copy" / "1", symlinks=True)
    for path in (root / "copy" / "1").iterdir():
        blob = os.path.realpath(hub / "snapshots" / ("a" * 40) / path.name)
        path.unlink()
        path.symlink_to(blob)
    with pytest.raises(ModelLoadError, check=sentence):
        repository.open("copy")


def test_a_repository_of_many_bad_folders_keeps_a_hundred_reasons(
    repository: ModelRepository, root: Path
) -> None:
    for number in range(150):
        (root / f"empty-{number:03d}").mkdir()
    assert len(reasons(repository)) == 100


def test_a_folder_that_is_removed_while_it_is_read_is_refused(
    repository: ModelRepository,
    add_version: AddVersion,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_version()
    (name,) = repository.models()
    for last in range(12):
        opened, scandir = 0, os.scandir

        def removed(path: object = ".", last: int = last, scandir: object = scandir) -> object:
            nonlocal opened
            opened += 1
            if opened > last:
                raise FileNotFoundError(2, "No such file or directory", str(path))
            return scandir(path)  # type: ignore[operator]

        with monkeypatch.context() as patched:
            patched.setattr(os, "scandir", removed)
            with suppress(ModelLoadError, ModelNotFoundError):
                repository.versions(name)
            with suppress(ModelLoadError, ModelNotFoundError):
                repository.open(name)
