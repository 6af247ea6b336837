import os
from collections.abc import Callable
from pathlib import Path

import pytest

from service.errors import ModelLoadError, ModelNotFoundError
from service.repository.repository import ModelRepository, Unusable, VersionFiles
from tests.sentences import sentence

AddVersion = Callable[..., Path]


@pytest.fixture
def repository(root: Path) -> ModelRepository:
    return ModelRepository(root)


def test_models_and_versions_are_listed_in_order(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    for version in ("2", "10", "1"):
        add_version("topics", version)
    add_version("digits", "3")
    assert repository.models() == ["digits", "topics"]
    assert repository.versions("topics") == [1, 2, 10]


def test_what_is_no_model_and_no_version_is_not_listed(
    repository: ModelRepository, add_version: AddVersion, root: Path
) -> None:
    folder = add_version().parent
    for name in ("0", "01", "v2", ".git", "latest"):
        (folder / name).mkdir()
    (folder / "2").write_text("a file")
    for name in (".cache", "my model", "empty"):
        (root / name).mkdir()
    (root / "README.md").write_text("a file")
    assert repository.models() == ["topics"]
    assert repository.versions("topics") == [1]


def test_a_version_is_opened_with_everything_needed_to_load_it(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    folder = add_version()
    (folder / "goldens.json").write_text('{"created_with": "torch", "items": []}')
    files = repository.open("topics", 1, "fp32")
    assert (files.model, files.version, files.folder) == ("topics", 1, folder)
    assert files.graphs == {"model": folder / "model.onnx"}
    assert files.manifest.family == "text_classifier"
    assert files.goldens == ()
    read = [folder / "model.onnx", folder / "tokenizer.json"]
    assert files.size_bytes == sum(path.stat().st_size for path in read)


def test_the_newest_version_is_opened_if_none_is_named(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    for version in ("9", "10"):
        add_version("topics", version)
    assert repository.open("topics").version == 10


def test_a_version_copied_in_later_is_found(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    add_version("topics", "1")
    assert repository.open("topics").version == 1
    add_version("topics", "2")
    assert repository.open("topics").version == 2


@pytest.mark.parametrize(
    ("wanted", "device", "chosen"),
    [("fp32", "cpu", "fp32"), (None, "cpu", "int8"), (None, "cuda", "fp32"), (None, "npu", "fp32")],
)
def test_the_precision_is_the_wanted_one_else_the_device_s_default_else_fp32(
    repository: ModelRepository,
    add_version: AddVersion,
    wanted: str | None,
    device: str,
    chosen: str,
) -> None:
    add_version()
    assert repository.open("topics", None, wanted, device).precision == chosen


def test_a_version_without_fp32_and_default_opens_what_it_has(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    add_version(
        manifest='task="embed"\nfamily="dual_encoder"\n[graphs.int8]\ntext="model_int8.onnx"'
    )
    files = repository.open("topics")
    assert files.precision == "int8"
    assert files.tolerance == 0.001


def test_the_tolerance_is_that_of_the_precision(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    add_version()
    assert repository.open("topics", precision="int8").tolerance == 0.05


def test_an_absent_precision_is_refused_by_name(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    add_version()
    with pytest.raises(ModelLoadError, check=sentence):
        repository.open("topics", 1, "fp16")


def test_an_unknown_model_is_refused_with_the_nearest_name(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    add_version("news-topics")
    with pytest.raises(ModelNotFoundError, check=sentence):
        repository.versions("news_topic")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../topics", "topics/1", "/topics", "topics\0", "./topics", "TOPICS/"]
)
def test_a_name_is_never_taken_for_a_path(
    repository: ModelRepository, add_version: AddVersion, name: str
) -> None:
    add_version()
    with pytest.raises(ModelNotFoundError):
        repository.open(name)


def test_an_unknown_version_is_refused_with_those_there_are(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    add_version("topics", "1")
    add_version("topics", "3")
    with pytest.raises(ModelNotFoundError, check=sentence):
        repository.open("topics", 2)


def test_a_repository_that_is_not_there_is_an_error_and_not_empty(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        ModelRepository(tmp_path / "models").models()


def test_a_broken_version_is_reported_and_hides_no_other(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    add_version("topics", "1")
    (add_version("topics", "2") / "model.toml").write_text("task = 'classify'")
    (add_version("topics", "3") / "model.toml").unlink()
    (add_version("topics", "4") / "model.onnx").unlink()
    (add_version("topics", "5") / "model_int8.onnx").write_text("not a graph")
    (add_version("topics", "6") / "goldens.json").write_text("{}")
    add_version("digits", "1")
    untold = "there is no config.json, and the graph's metadata does not name the task"
    raw = ', or family = "tensors" to serve its tensors as they are'
    found = {
        (one.model, one.version): one.reason if isinstance(one, Unusable) else one.precision
        for one in repository.survey("fp32")
    }
    assert found == {
        ("digits", 1): "fp32",
        ("topics", 1): "fp32",
        ("topics", 2): f"topics/2: {untold}: add family to model.toml{raw}",
        ("topics", 3): f"topics/3: {untold}: add task, family to model.toml{raw}",
        ("topics", 4): "topics/4/model.toml: the file model.onnx does not exist",
        (
            "topics",
            5,
        ): "topics/5: model_int8.onnx is not an ONNX graph: it has a field of unknown kind 6; "
        "copy or export it again",
        ("topics", 6): "topics/6/goldens.json: created_with is missing; items is missing",
    }


def test_folders_that_should_not_be_there_are_reported(
    repository: ModelRepository, add_version: AddVersion, root: Path, tmp_path: Path
) -> None:
    add_version()
    (root / "my model" / "1").mkdir(parents=True)
    (root / "empty").mkdir()
    (tmp_path / "elsewhere" / "1").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "elsewhere")
    found = [one for one in repository.survey() if isinstance(one, Unusable)]
    assert [(one.model, one.version, one.reason) for one in found] == [
        ("empty", None, "it has no version, a folder named 1, 2, ..., and is no export directory"),
        ("link", None, "it is a link out of the repository"),
        ("my model", None, "this cannot be a model's name"),
    ]
    assert repository.models() == ["topics"]


def test_a_survey_tells_readable_versions_by_their_files(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    add_version()
    (one,) = repository.survey(device_kind="cuda")
    assert isinstance(one, VersionFiles)
    assert one == repository.open("topics", 1, "fp32")


def test_a_version_that_is_a_link_out_of_the_repository_does_not_exist(
    repository: ModelRepository, add_version: AddVersion, root: Path, tmp_path: Path
) -> None:
    folder = add_version("topics", "1")
    folder.rename(tmp_path / "outside")
    add_version("topics", "2")
    (root / "topics" / "1").symlink_to(tmp_path / "outside")
    assert repository.versions("topics") == [2]


def test_a_version_may_be_a_link_within_the_repository(
    repository: ModelRepository, add_version: AddVersion, root: Path
) -> None:
    add_version("topics", "1")
    (root / "topics" / "2").symlink_to(root / "topics" / "1")
    assert repository.open("topics", 2).digest == repository.open("topics", 1).digest


@pytest.mark.parametrize("name", ["model.toml", "model.onnx", "tokenizer.json", "vocabulary.txt"])
def test_a_file_that_is_a_link_out_of_the_repository_is_refused(
    repository: ModelRepository, add_version: AddVersion, tmp_path: Path, name: str
) -> None:
    folder = add_version()
    outside = tmp_path / "outside"
    outside.write_bytes((folder / name).read_bytes() if (folder / name).exists() else b"x")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(outside)
    with pytest.raises(ModelLoadError, check=sentence):
        repository.open("topics", 1, "fp32")


def test_a_link_to_a_folder_inside_a_version_is_refused(
    repository: ModelRepository, add_version: AddVersion, root: Path
) -> None:
    folder = add_version()
    (root / "topics" / "shared").mkdir()
    (folder / "shared").symlink_to(root / "topics" / "shared")
    with pytest.raises(ModelLoadError, check=sentence):
        repository.open("topics")


def test_a_file_that_cannot_be_read_is_named(
    repository: ModelRepository, add_version: AddVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_version()
    real = Path.open

    def refuse(path: Path, mode: str = "r", **how: str) -> object:
        if path.name == "tokenizer.json":
            raise PermissionError(13, "Permission denied", path.name)
        return real(path, mode, **how)

    monkeypatch.setattr(Path, "open", refuse)  # root reads everything, so no chmod
    with pytest.raises(ModelLoadError, check=sentence):
        repository.open("topics")


def test_a_pipe_among_the_files_is_not_waited_for(
    repository: ModelRepository, add_version: AddVersion
) -> None:
    folder = add_version()
    os.mkfifo(folder / "pipe")
    assert repository.open("topics").version == 1


def test_a_repository_shows_its_folder(repository: ModelRepository, root: Path) -> None:
    assert repr(repository) == f"<ModelRepository {root}>"
