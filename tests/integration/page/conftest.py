"""One service and one browser for all that is tried on the page."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest

from tests.browser import Visit, running_browser, visiting
from tests.integration.page.asking import CLIP, DESKTOP
from tests.integration.real_service import STARTERS, RealService, real_service

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture(scope="package")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    options = (f"--streams.sources=file://{CLIP}",)
    with real_service(tmp_path_factory.mktemp("service"), *options) as running:
        yield running


@pytest.fixture(scope="package")
def browser() -> "Iterator[Browser]":
    with running_browser() as running:
        yield running


@pytest.fixture
def visit(browser: "Browser", service: RealService) -> Iterator[Visit]:
    with visiting(browser, f"{service.url}/", DESKTOP) as visit:
        visit.page.locator("#readiness[data-state=ready]").wait_for()
        yield visit


@pytest.fixture(scope="package")
def small_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    """Yield a service with two classifiers of texts, an embedder, and a low limit of items."""
    folder = tmp_path_factory.mktemp("small")
    repository = folder / "repository"
    for source, name in (
        ("news-topics", "news-topics"),
        ("news-topics", "other"),
        ("emoji", "emoji"),
    ):
        shutil.copytree(STARTERS / source, repository / name)
    options = ("--models.repository", str(repository), "--limits.max-items", "10")
    with real_service(folder, *options) as running:
        yield running


@pytest.fixture(scope="package")
def others_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealService]:
    """Yield a service with models that are no starters: other labels, a text embedder, English."""
    folder = tmp_path_factory.mktemp("others")
    repository = folder / "repository"
    for source, name, changes in (
        ("news-topics", "tone", {label: f"tone {label}" for label in NEWS}),
        ("digits", "shapes", {f'"{digit}"': f'"shape {digit}"' for digit in range(10)}),
        ("cards", "things", {f'"{rank}"': f'"thing {rank}"' for rank in RANKS}),
    ):
        version = Path(shutil.copytree(STARTERS / source, repository / name)) / "1"
        (version / "goldens.json").unlink()  # they name the labels
        manifest = version / "model.toml"
        text = manifest.read_text(encoding="utf-8")
        for old, new in changes.items():
            text = text.replace(old, new)
        manifest.write_text(text, encoding="utf-8")
    write_text_embedder(repository / "sentences" / "1")
    with real_service(folder, "--models.repository", str(repository)) as running:
        yield running


NEWS = ("business", "entertainment", "health", "science_technology")
RANKS = ("nine", "ten", "jack", "queen", "king", "ace")


def write_text_embedder(version: Path) -> None:
    """Make the text tower of `emoji` an embedder of texts alone."""
    version.mkdir(parents=True)
    source = STARTERS / "emoji" / "1"
    shutil.copyfile(source / "tokenizer.json", version / "tokenizer.json")
    model = onnx.load(source / "text_model.onnx")
    for node in model.graph.node:
        for at, name in enumerate(node.output):
            if name == "text_embeds":
                node.output[at] = "sentence_embedding"
    model.graph.output[0].name = "sentence_embedding"
    onnx.save(model, version / "model.onnx")
    (version / "model.toml").write_text(
        """task = "embed"
family = "text_embedder"
[graphs.fp32]
model = "model.onnx"
[parameters]
tokenizer = "tokenizer.json"
max_length = 48
pad_id = 0
pooling = "none"
""",
        encoding="utf-8",
    )
