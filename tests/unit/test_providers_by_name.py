"""Providers that are named, that are not tried, and that cannot compute a graph."""

import dataclasses
from pathlib import Path

import pytest
from fake_provider import FIRST_SECONDS, Fake, add_fake, loaded, rows

from service.errors import DeviceUnavailableError, ModelLoadError
from tests.lamps import make_repository
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)  # sessions run on real threads


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    return add_fake(monkeypatch)


async def test_a_precision_that_was_asked_for_stays(fake: Fake, tmp_path: Path) -> None:
    async with loaded(tmp_path, exactness="fast", any_precision=False) as one:
        assert {key[1] for key in rows(one)} == {"fp32"}


@pytest.mark.parametrize("fails", ["open", "run"])
async def test_a_graph_that_it_cannot_run_stays_with_the_first_choice(
    fake: Fake, tmp_path: Path, fails: str
) -> None:
    fake.fails = fails
    async with loaded(tmp_path) as one:
        row = rows(one)["fake", "fp32", "f32"]
        assert row.verdict == "refused"
        assert sentence(row.reason or "")
        assert one.providers == {"model": "cpu"}


async def test_without_the_package_there_is_nothing_to_choose(fake: Fake, tmp_path: Path) -> None:
    fake.problem = "fake needs the package fake"
    async with loaded(tmp_path) as one:
        assert one.choice is None
        assert not fake.opened
        assert fake.asked == 0


async def test_a_named_provider_computes_without_a_comparison(fake: Fake, tmp_path: Path) -> None:
    fake.seconds = 2 * FIRST_SECONDS
    async with loaded(tmp_path, provider="fake") as one:
        assert one.providers == {"model": "fake"}
        assert one.choice is None


async def test_what_loads_do_not_try_is_computed_by_name_in_its_fastest_arithmetic(
    fake: Fake, tmp_path: Path
) -> None:
    fake.rows["fake"] = dataclasses.replace(fake.rows["fake"], is_tried=False)
    fake.can_bf16 = True
    async with loaded(tmp_path) as one:
        assert one.providers == {"model": "cpu"}
        assert one.choice is None
    async with loaded(tmp_path, provider="fake") as one:
        assert one.providers == {"model": "fake"}
        assert {key[0] for key in rows(one)} == {"fake"}
        assert rows(one)["fake", "fp32", "bf16"].verdict == "not_faster"


async def test_a_manifest_names_a_provider(fake: Fake, tmp_path: Path) -> None:
    make_repository(tmp_path)
    with (tmp_path / "lamps/1/model.toml").open("a") as file:
        file.write('[runtime]\nprovider = "cpu"\n')
    async with loaded(tmp_path) as one:
        assert one.providers == {"model": "cpu"}
        assert one.choice is None
    async with loaded(tmp_path, provider="fake") as one:
        assert one.providers == {"model": "fake"}


async def test_a_named_provider_that_cannot_be_used_is_refused(fake: Fake, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        async with loaded(tmp_path, provider="tpu"):
            pass
    fake.problem = "fake needs the package fake, which is not installed"
    with pytest.raises(DeviceUnavailableError, check=sentence):
        async with loaded(tmp_path, provider="fake"):
            pass
