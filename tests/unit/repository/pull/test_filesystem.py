"""Pulls from folders, web servers and object stores, by fsspec."""

import io
import shutil
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from service.errors import ModelLoadError
from service.repository.pull.reference import parse_reference
from service.repository.repository import ModelRepository
from tests.fake_hub import image_classifier
from tests.lamps import make_repository
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "exports" / "lamps"
    for name, content in image_classifier().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def digest(root: Path, version: int | None = None) -> str:
    return ModelRepository(root).open("lamps", version).digest


def test_a_folder_is_copied_and_its_changes_are_the_next_version(
    export: Path, pull_model, tmp_path: Path
) -> None:
    first = pull_model(f"file://{export}")
    assert sorted(first.record.files) == [
        "config.json",
        "onnx/model.onnx",
        "onnx/model.onnx_data",
        "preprocessor_config.json",
    ]
    assert pull_model(f"file://{export}").is_new is False
    (export / "onnx" / "model.onnx_data").write_bytes(bytes(104))
    assert pull_model(f"file://{export}").version == 2
    assert digest(tmp_path / "repository", 1) != digest(tmp_path / "repository", 2)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_of_a_folder_of_versions_the_newest_is_pulled_with_its_goldens(
    pull_model, tmp_path: Path, precision: str
) -> None:
    make_repository(tmp_path / "others")
    shutil.copytree(tmp_path / "others/lamps/1", tmp_path / "others/lamps/3")
    pull_model(f"file://{tmp_path}/others/lamps", precision)
    opened = ModelRepository(tmp_path / "repository").open("lamps")
    original = ModelRepository(tmp_path / "others").open("lamps", 3, precision)
    assert (opened.digest, opened.precision) == (original.digest, precision)
    assert len(opened.goldens) == 3
    assert list(opened.manifest.graphs) == [precision]
    assert len(list((tmp_path / "repository/lamps/1").glob("*.onnx"))) == 1


class _Web(SimpleHTTPRequestHandler):
    """A folder with an index, without ranges; `cuts` bodies end early."""

    cuts: int
    seen: list[str]

    def log_message(self, format: str, *args: Any) -> None:
        self.seen.append(self.path)

    def copyfile(self, source: Any, outputfile: Any) -> None:
        if type(self).cuts and self.path.endswith(".onnx"):
            type(self).cuts -= 1
            outputfile.write(source.read(100))
        else:
            super().copyfile(source, outputfile)


@pytest.fixture
def web(export: Path) -> Iterator[tuple[str, type[_Web]]]:
    class Handler(_Web):
        cuts, seen = 0, []

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(export.parent)))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://user:secret@127.0.0.1:{server.server_port}/lamps", Handler
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_web_server_without_ranges_is_read_again_from_the_start(
    web, pull_model, pauses, export: Path, tmp_path: Path, caplog
) -> None:
    url, handler = web
    handler.cuts = 2
    pulled = pull_model(url)
    copied = tmp_path / "repository/lamps/1/onnx/model.onnx"
    assert copied.read_bytes() == (export / "onnx/model.onnx").read_bytes()
    assert "secret" not in repr(pulled.record) + caplog.text
    assert not any("safetensors" in path or "fp16" in path for path in handler.seen)


def test_what_is_not_on_a_web_server_is_told_without_its_password(web, pull_model, pauses) -> None:
    url, _ = web
    with pytest.raises(ModelLoadError, check=sentence) as refused:
        pull_model(f"{url}x")
    assert "secret" not in str(refused.value)


class _Store(MemoryFileSystem):  # type: ignore[misc]
    """An object store with a bucket in memory, whose first read fails half-way."""

    protocol = "s3"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    failures = 0

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return "/" + path.removeprefix("s3://").strip("/")

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        opened = super()._open(path, mode, **options)
        if mode == "rb" and path.endswith(".onnx") and _Store.failures:
            _Store.failures -= 1
            return _Breaking(opened.getvalue())
        return opened


class _Breaking(io.BytesIO):
    """Gives 50 bytes, and then breaks off."""

    has_given = False

    def read(self, size: int | None = -1) -> bytes:
        if self.has_given:
            raise ConnectionResetError("reset by https://bucket.s3/?X-Amz-Signature=secret")
        self.has_given = True
        return super().read(50)


def test_an_object_that_breaks_off_is_taken_up_where_it_ended(
    pull_model, pauses, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules["fsspec.registry"]._registry, "s3", _Store)
    store = fsspec.filesystem("s3")
    for name, content in image_classifier().items():
        store.pipe(f"s3://bucket/exports/lamps/{name}", content)
    monkeypatch.setattr(_Store, "failures", 3)
    pull_model("s3://bucket/exports/lamps")
    graph = tmp_path / "repository/lamps/1/onnx/model.onnx"
    assert graph.read_bytes() == image_classifier()["onnx/model.onnx"]
    assert len(pauses) == 3
    with pytest.raises(ModelLoadError, check=sentence):
        pull_model("s3://bucket/nothing")


def test_without_its_package_the_message_names_the_extra(pull_model, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(ModelLoadError, check=sentence):
        pull_model("gs://bucket/lamps")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("hf://org/name@v1.0", "hf://org/name@v1.0"),
        ("hf://gpt2", "hf://gpt2"),
        ("https://me:pw@host/a/b?X-Signature=s#x", "https://host/a/b"),
        ("s3://bucket/a", "s3://bucket/a"),
    ],
)
def test_references_are_shown_without_secrets(text: str, shown: str) -> None:
    assert str(parse_reference(text)) == shown


@pytest.mark.parametrize(
    "text",
    [
        "ftp://host/a",
        "org/name",
        "hf://",
        "hf://a/b/c",
        "hf://a/..",
        "hf://a/b@",
        "hf://a/b@../x",
        "https://",
        "s3:///",
        "hf://a/b c",
        "memory://x",
    ],
)
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ModelLoadError):
        parse_reference(text)
