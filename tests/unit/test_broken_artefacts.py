"""What is broken in a version is said in a sentence, at once, while the old one goes on answering.

Every case goes through the real registry, repository and loader.
"""

import io
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import pytest_asyncio
from PIL import Image as Picture

from service.cache.memory import NullBackend
from service.cache.responses import ResponseCache
from service.engine.device import DeviceRuntime
from service.engine.factory import EngineFactory
from service.errors import ModelLoadError
from service.registry.loader import Loader
from service.registry.registry import Registry, RegistryOptions
from service.repository.repository import ModelRepository
from service.requests.request import Request
from service.runtime.providers import Device
from service.tasks import ClassifyItem, Content, Image, Task, Text
from tests.broken_artefacts import CASES, Case
from tests.broken_graphs import BROKEN_GRAPHS
from tests.broken_values import MORE_CASES
from tests.lamps import make_repository
from tests.words import add_export, add_words

pytestmark = pytest.mark.looptime(False)  # sessions run on real threads

SECONDS = 10.0
"""Of the processor, whatever else the machine does."""


@asynccontextmanager
async def registry_of(root: Path) -> AsyncIterator[Registry]:
    runtime = DeviceRuntime(Device("cpu"), 2)
    loader = Loader(
        EngineFactory(runtime), ResponseCache(NullBackend(), enabled=False), warm_up_seconds=0.001
    )
    registry = Registry(ModelRepository(root), loader, RegistryOptions("cpu", models=[]))
    try:
        yield registry
        await registry.stop(grace=0)
    finally:
        runtime.close()


async def best(registry: Registry, model: str, content: Content) -> str:
    modality = "text" if isinstance(content, Text) else "image"
    pipeline = registry.find(Task.CLASSIFY, modality, model, 1)
    outcome = await pipeline.answer(ClassifyItem(content), Request())
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


@pytest.fixture
def repository(sound: Path, tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    shutil.copytree(sound, root)
    return root


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def serving(
    sound: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Registry, Path]]:
    """A registry that serves version 1 of every model, and its repository."""
    root = tmp_path_factory.mktemp("serving") / "repository"
    shutil.copytree(sound, root)
    async with registry_of(root) as registry:
        for model in ASKED:
            await registry.load(model, 1)
        yield registry, root


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize("case", [*CASES, *BROKEN_GRAPHS, *MORE_CASES], ids=lambda case: case.name)
async def test_it_is_refused_in_a_sentence_at_once_while_the_old_version_answers(
    case: Case, serving: tuple[Registry, Path]
) -> None:
    registry, repository = serving
    folder = repository / case.model / "2"
    shutil.copytree(repository / case.model / "1", folder)
    try:
        case.spoil(folder)
        content, label = ASKED[case.model]
        started = time.process_time()
        with pytest.raises(ModelLoadError, match=case.said) as refused:
            await registry.load(case.model, 2)
        assert time.process_time() - started < SECONDS
        assert await best(registry, case.model, content) == label
    finally:
        shutil.rmtree(folder)
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
