from pathlib import Path

import pytest

from service.errors import ModelLoadError
from service.repository.paths import MODEL_NAME, VERSION_NAME, file_inside, is_plain_path
from tests.sentences import sentence


@pytest.mark.parametrize("name", ["news-topics", "zh-en", "v2.1", "A_b", "0", "a" * 100])
def test_ordinary_names_are_names_of_models(name: str) -> None:
    assert MODEL_NAME.fullmatch(name)


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".git", "a..b", "a/b", "a\\b", "a b", "a\n", "_unknown_", "é", "a" * 101, "-x"],
)
def test_odd_names_are_not(name: str) -> None:
    assert not MODEL_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["1", "12", "999999999"])
def test_positive_numbers_are_versions(name: str) -> None:
    assert VERSION_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["0", "01", "-1", "1.0", "１", "1\n", "v1", "", "1000000000"])
def test_other_ways_to_write_a_number_are_not(name: str) -> None:
    assert not VERSION_NAME.fullmatch(name)


@pytest.mark.parametrize("name", ["model.onnx", "onnx/model (1).onnx_data", "a=b+c@d", "模型.onnx"])
def test_paths_of_ordinary_parts_are_plain(name: str) -> None:
    assert is_plain_path(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".",
        "..",
        "../x",
        "a/../x",
        "a/./x",
        "a//x",
        "/etc/passwd",
        "a/",
        "a\\..\\x",
        "C:/x",
        ".hidden",
        "a/.hidden",
        "a\x00b",
        "a\nb",
        "a..b",
        "*/_ORT_MEM_ADDR_/*",
        "x" * 201,
    ],
)
def test_paths_that_could_lead_elsewhere_are_not(name: str) -> None:
    assert not is_plain_path(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "root" / "m" / "1"
    path.mkdir(parents=True)
    (path / "file").write_text("in")
    (tmp_path / "outside").write_text("out")
    return path


def test_a_file_in_the_folder_is_returned(folder: Path) -> None:
    assert file_inside("file", folder, folder, "m/1") == folder / "file"


def test_a_link_within_the_root_is_followed(folder: Path) -> None:
    (folder / "link").symlink_to(folder / "file")
    assert file_inside("link", folder, folder.parents[1], "m/1").read_text() == "in"


def test_a_link_out_of_the_root_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "link").symlink_to(tmp_path / "outside")
    with pytest.raises(ModelLoadError, check=sentence):
        file_inside("link", folder, folder.parents[1], "m/1")


def test_a_link_of_a_folder_out_of_the_root_is_refused(folder: Path, tmp_path: Path) -> None:
    (folder / "sub").symlink_to(tmp_path)
    with pytest.raises(ModelLoadError, check=sentence):
        file_inside("sub/outside", folder, folder.parents[1], "m/1")


@pytest.mark.parametrize("name", ["absent", "."])
def test_what_is_no_file_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        file_inside(name, folder, folder, "m/1")


def test_a_root_that_is_itself_a_link_is_no_reason_to_refuse(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "alias").symlink_to(tmp_path / "root")
    alias = tmp_path / "alias"
    assert file_inside("file", alias / "m" / "1", alias, "m/1").read_text() == "in"
