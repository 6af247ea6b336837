"""What a load keeps of its measurements, and when the next one uses them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from service.cache.memory import NullBackend
from service.cache.responses import ResponseCache
from service.engine.curve import BatchCurve
from service.engine.device import DeviceRuntime
from service.engine.factory import EngineFactory, RunnableModel
from service.engine.policy import BatchLimits
from service.errors import ModelLoadError
from service.registry.loader import Loaded, Loader
from service.registry.measurements import Measurements, MeasurementsFolder, measurements_key
from service.repository.repository import ModelRepository, VersionFiles
from service.runtime.providers import Device
from tests.lamps import make_repository
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)  # sessions run on real threads

CURVE = BatchCurve.of({(1, 4): 0.001, (4, 4): 0.003, (1, 8): 0.002}, 0.0005)


@dataclass(frozen=True, slots=True)
class CountingFactory(EngineFactory):
    """Counts the warm-ups."""

    measured: list[str] = field(default_factory=list)

    async def warm_up(
        self, runnable: RunnableModel, limits: BatchLimits, seconds: float
    ) -> Mapping[str, BatchCurve]:
        self.measured.append(runnable.version[0])
        return await EngineFactory.warm_up(self, runnable, limits, seconds)


@dataclass
class Starts:
    """Loads one version again and again, each time as a new process would."""

    root: Path
    folder: Path
    measured: int = 0

    def files(self) -> VersionFiles:
        return ModelRepository(self.root).open("lamps")

    def runtime(self) -> DeviceRuntime:
        return DeviceRuntime(Device("cpu"), 2)

    async def start(self) -> Loaded:
        runtime = self.runtime()
        factory = CountingFactory(runtime)
        cache = ResponseCache(NullBackend(), enabled=False)
        kept = MeasurementsFolder(self.folder)
        try:
            loaded = await Loader(factory, cache, warm_up_seconds=0.01, kept=kept).load(
                self.files()
            )
            await loaded.close(grace=0)
        finally:
            self.measured += len(factory.measured)
            runtime.close()
        return loaded

    def file(self) -> Path:
        (file,) = self.folder.iterdir()
        return file


@pytest.fixture
def starts(tmp_path: Path) -> Starts:
    make_repository(tmp_path / "models")
    return Starts(tmp_path / "models", tmp_path / "kept")


async def test_the_second_start_measures_one_point_and_one_golden(starts: Starts) -> None:
    first, second = await starts.start(), await starts.start()
    assert starts.measured == 1
    assert second.parity == first.parity
    assert second.pipeline.engines["default"].curve == first.pipeline.engines["default"].curve
    both = [one.instances.multi_thread is None for one in (first, second)]
    assert both[0] == both[1]


async def test_a_curve_that_is_far_off_is_measured_again_and_kept(starts: Starts) -> None:
    await starts.start()
    facts = json.loads(starts.file().read_text())
    facts["curves"]["default"]["table"] = [[9.0, 9.0, 9.0, 9.0]]
    starts.file().write_text(json.dumps(facts))
    await starts.start()
    assert starts.measured == 2
    assert json.loads(starts.file().read_text())["curves"]["default"]["table"][0][0] < 9


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff", b'{"curves": {}}', b'{"curves": {"default": {"table": 1}}}'],
)
async def test_a_file_that_cannot_be_read_is_measured_again(starts: Starts, content: bytes) -> None:
    await starts.start()
    starts.file().write_bytes(content)
    await starts.start()
    assert starts.measured == 2
    assert MeasurementsFolder(starts.folder).read(starts.file().stem) is not None


async def test_a_golden_that_no_longer_agrees_refuses_the_version(starts: Starts) -> None:
    await starts.start()
    before = starts.file()
    goldens = starts.root / "lamps" / "1" / "goldens.json"
    facts = json.loads(goldens.read_text())
    facts["items"][0]["answer"]["labels"][0]["score"] = 0.9
    goldens.write_text(json.dumps(facts))
    after = starts.folder / f"{_key(starts)}.json"  # as if it had been kept for these goldens
    before.rename(after)
    with pytest.raises(ModelLoadError, check=sentence):
        await starts.start()
    assert starts.measured == 1


def _key(starts: Starts) -> str:
    runtime = starts.runtime()
    try:
        return measurements_key(starts.files(), runtime, BatchLimits(4, 256), 0.01)
    finally:
        runtime.close()


def test_a_changed_file_has_another_key(starts: Starts) -> None:
    keys = [_key(starts)]
    folder = starts.root / "lamps" / "1"
    for name, more in [("model.toml", "\n"), ("goldens.json", " "), ("labels.txt", "x")]:
        with (folder / name).open("a") as file:
            file.write(more)
        keys.append(_key(starts))
    (folder / "goldens" / "0.png").write_bytes((folder / "goldens" / "255.png").read_bytes())
    keys.append(_key(starts))
    assert len(set(keys)) == len(keys)


def test_what_is_kept_is_read_as_it_was(tmp_path: Path) -> None:
    folder = MeasurementsFolder(tmp_path / "new" / "kept")
    found = Measurements({"a": CURVE}, True, ["model"], None, 12)
    folder.write("key", found)
    known = folder.read("key")
    assert known is not None
    assert known.curves["a"].table == [pytest.approx(row) for row in CURVE.table]
    assert replace(known, curves={}) == replace(found, curves={})
    assert folder.read("other") is None


def test_a_folder_that_cannot_be_written_loses_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = MeasurementsFolder(tmp_path / "file" / "kept")
    folder.write("key", Measurements({"a": CURVE}, True, []))
    assert folder.read("key") is None
    assert MeasurementsFolder().read("key") is None
