import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.repository.pull import source
from service.repository.pull.pull import Pulled, Wanted, pull
from service.repository.pull.reference import parse_reference
from service.repository.pull.source import RemoteFile
from tests.fake_hub import FakeHub, FakeRepo, image_classifier

PullModel = Callable[..., Pulled]


class Silent:
    """An observer that keeps the names of the files."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.total: int | None = None

    def waits(self, model: str) -> None:
        pass

    def begins(self, model: str, size: int | None, measure: Callable[[], int]) -> None:
        self.total = size

    def fetches(self, file: RemoteFile) -> None:
        self.fetched.append(file.name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    """The fake Hub, which huggingface_hub asks: it reads its environment once, at import."""
    hub = FakeHub()
    with pytest.MonkeyPatch.context() as patch, hub.running():
        patch.setenv("HF_ENDPOINT", hub.url)
        patch.setenv("HF_HOME", str(tmp_path_factory.mktemp("home")))
        for name in ("HF_TOKEN", "HF_HUB_OFFLINE"):
            patch.delenv(name, raising=False)
        for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            patch.delitem(sys.modules, name)
        yield hub
        for name in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
            del sys.modules[name]


@pytest.fixture
def hub(server: FakeHub) -> FakeHub:
    """The fake Hub with one model, `org/lamps`."""
    server.repos = {"org/lamps": FakeRepo()}
    server.repos["org/lamps"].commit(image_classifier())
    server.requests.clear()
    server.faults.clear()
    return server


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses between attempts, which are not made."""
    found: list[float] = []
    monkeypatch.setattr(source.time, "sleep", found.append)
    return found


@pytest.fixture
def observer() -> Silent:
    return Silent()


@pytest.fixture
def pull_model(tmp_path: Path, observer: Silent) -> PullModel:
    def pulled(
        text: str = "hf://org/lamps", precision: str | None = None, device_kind: str = "cpu"
    ) -> Pulled:
        wanted = Wanted(parse_reference(text), "lamps", precision, device_kind)
        return pull(tmp_path / "repository", wanted, observer)

    return pulled
