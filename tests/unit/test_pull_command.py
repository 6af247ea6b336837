"""`models pull` and `models.serve` from the command line."""

import logging
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from service import pull_command
from service.__main__ import main
from service.errors import ModelLoadError
from service.pull_command import exported, with_pulled
from service.repository.pull.reference import parse_reference
from service.repository.repository import ModelRepository
from service.settings import ModelSettings, SettingsError, read_settings
from tests.fake_hub import image_classifier
from tests.lamps import make_repository
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of versions elsewhere, and an empty repository in the settings."""
    for name in [name for name in os.environ if name.startswith("QUARTET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("QUARTET_MODELS__REPOSITORY", str(tmp_path / "repository"))
    make_repository(tmp_path / "elsewhere")
    return tmp_path / "elsewhere" / "lamps"


def test_a_pull_prints_the_version_and_where_it_is_from(
    source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "pull", f"file://{source}", "--as", "other", "--precision=int8"]) == 0
    output = capsys.readouterr().out
    assert f"other/1 pulled: file://{source}" in output.replace("\n", " ")
    assert "int8*" in output
    assert main(["models", "pull", f"file://{source}", "--as", "other", "--precision=int8"]) == 0
    assert "was there already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["ftp://host/x"], "is no source of models"),
        (["hf://org/name", "--as", "a/b"], "cannot be a model's name"),
        (["https://host/a+b"], "give it another (--as NAME)"),
        (["file:///nothing/here"], "there is no file:///nothing/here"),
    ],
)
@pytest.mark.usefixtures("source")
def test_what_cannot_be_pulled_is_refused(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["models", "pull", *arguments]) != 0
    assert reason in capsys.readouterr().err


@pytest.mark.usefixtures("source")
def test_a_pull_that_cannot_be_served_fails_and_says_what_to_add(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = image_classifier()
    for name in ("onnx/model.onnx", "onnx/model.onnx_data"):
        (tmp_path / "bare" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "bare" / name).write_bytes(files[name])
    assert main(["models", "pull", f"file://{tmp_path}/bare"]) == 1
    assert "model.toml" in capsys.readouterr().err


def settings(tmp_path: Path, serve: str, **others: Any) -> ModelSettings:
    given = {"models": {"serve": serve, "repository": str(tmp_path / "repository"), **others}}
    options = {f"models.{name}": str(value) for name, value in given["models"].items()}
    return read_settings({}, options).models


def test_models_at_start_are_pulled_once_and_the_right_version_is_chosen(
    source: Path, tmp_path: Path
) -> None:
    serve = f"a=file://{source},b={source}"
    found = with_pulled(settings(tmp_path, serve))
    assert (found.only, dict(found.versions)) == (("a", "b"), {})
    repository = ModelRepository(found.repository, found.folders)
    assert repository.open("a").digest == repository.open("b").digest
    assert repository.models() == ["a", "b"]
    shutil.copytree(tmp_path / "repository/a/1", tmp_path / "repository/a/2")
    (tmp_path / "repository/a/2/.source.json").unlink()
    shutil.rmtree(source)  # is not asked again
    assert dict(with_pulled(settings(tmp_path, f"a=file://{source}")).versions) == {"a": 1}


@pytest.mark.parametrize("serve", ["a/b=hf://x/y", "a=ftp://x/y", "a=hf://x/y/z", "a"])
def test_what_cannot_be_served_by_name_is_refused(tmp_path: Path, serve: str) -> None:
    with pytest.raises(SettingsError):
        settings(tmp_path, serve)


@pytest.mark.usefixtures("source")
def test_a_folder_that_is_not_there_is_refused_at_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = settings(tmp_path, f"a={tmp_path}/nowhere")
    assert (
        "there is no folder"
        in ModelRepository(found.repository, found.folders).contents().unusable["a"]
    )


def test_an_export_runs_the_command_of_the_checkout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference, commands = parse_reference("hf://org/name"), []
    monkeypatch.setattr(pull_command, "find_spec", lambda name: None if name == "torch" else True)
    with pytest.raises(ModelLoadError, check=sentence):
        exported(reference, "a" * 40, tmp_path)
    monkeypatch.setattr(pull_command, "find_spec", lambda _: True)

    def run(command: list[str], **_: Any) -> "subprocess.CompletedProcess[str]":
        commands.append(command[1:])
        return subprocess.CompletedProcess(command, len(commands) - 1)

    monkeypatch.setattr(pull_command.subprocess, "run", run)
    exported(reference, "a" * 40, tmp_path)
    with pytest.raises(ModelLoadError, match="failed"):
        exported(reference, "a" * 40, tmp_path)
    wanted = ["-m", "models.export", "org/name", "--revision", "a" * 40, "--to", str(tmp_path)]
    assert commands == [wanted, wanted]
    with pytest.raises(ModelLoadError, check=sentence):
        exported(parse_reference("s3://b/x"), "", tmp_path)
