import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from service.__main__ import main
from service.console import Check, curve_tables
from service.registry.status import ModelState, VersionStatus
from service.settings import settings_page
from tests.lamps import MANIFEST, make_repository, serving
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)  # real sessions on real threads


@pytest.fixture(autouse=True)
def logs() -> Iterator[None]:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], level = before
    root.setLevel(level)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of one small image classifier whose int8 graph answers wrongly."""
    make_repository(tmp_path / "repository")
    for name in [name for name in os.environ if name.startswith("QUARTET_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("QUARTET_MODELS__REPOSITORY", str(tmp_path / "repository"))
    monkeypatch.setenv("QUARTET_MODELS__WARM_UP_SECONDS", "0.05")
    return tmp_path / "repository"


def rows(output: str, name: str) -> list[list[str]]:
    """Return the cells of a table's rows that begin with a name."""
    lines = (line.strip("│ \n") for line in output.splitlines())
    return [[cell.strip() for cell in line.split("│")] for line in lines if line.startswith(name)]


@pytest.mark.usefixtures("repository")
def test_models_list_shows_every_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list"]) == 0
    (row,) = rows(capsys.readouterr().out, "lamps")
    assert row[:5] == ["lamps", "1", "classify", "image_classifier", "fp32* int8"]
    assert len(row[6]) == 12
    assert row[7] == "3"


@pytest.mark.usefixtures("repository")
def test_models_list_marks_the_precision_that_was_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "list", "--models.precision", "int8"]) == 0
    assert rows(capsys.readouterr().out, "lamps")[0][4] == "fp32 int8*"


def test_models_list_shows_a_broken_version_with_the_reason(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "lamps" / "2").mkdir()
    (repository / "lamps" / "2" / "model.toml").write_text(MANIFEST.replace("mode =", "[mood] #"))
    assert main(["models", "list"]) == 1
    first, second, reason = rows(capsys.readouterr().out, "lamps")
    assert first[1] == "1"
    assert second[1:3] == ["2", "broken"]
    assert reason[0].startswith("lamps/2: lamps/2/model.toml: mood is not a known key")


@pytest.mark.usefixtures("repository")
def test_models_check_loads_measures_and_compares(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "check"]) == 0
    output = capsys.readouterr().out
    assert "lamps/1" in output
    assert "milliseconds of a batch" in " ".join(output.split())  # the title may be wrapped
    (row,) = [row for row in rows(output, "lamps") if len(row) > 5]
    assert row[:4] == ["lamps", "1", "fp32", "cpu"]
    assert row[5] == "3"
    assert float(row[6]) < 1e-5
    assert row[7:] == ["0.0001", "0", "0", "passed"]


@pytest.mark.usefixtures("repository")
def test_models_check_fails_for_answers_unlike_the_goldens(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "check", "lamps", "--models.precision=int8"]) == 1
    output = capsys.readouterr().out
    assert rows(output, "lamps")[0][1:3] == ["1", "int8"]
    assert rows(output, "lamps")[0][-1] == "failed"
    assert "lamps: goldens asked alone deviate by" in output


@pytest.mark.usefixtures("repository")
def test_models_check_of_a_model_that_is_not_there_fails_by_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["models", "check", "lamp", "lamps"]) == 1
    output = capsys.readouterr().out
    assert "lamp: there is no model 'lamp'; did you mean lamps?" in output
    assert "passed" in output


def test_a_name_with_brackets_is_shown_as_it_is(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (repository / "[red]lamp").mkdir()
    assert main(["models", "list"]) == 1
    assert main(["models", "check", "[red]lamp"]) == 1
    assert capsys.readouterr().out.count("[red]lamp") >= 4


def make_export(folder: Path) -> Path:
    """Write an export directory: an image classifier for which bright images are light."""
    folder.mkdir(parents=True)
    weights = np.array([[-1.0, 1.0]] * 12, np.float32)
    nodes = [
        helper.make_node("Flatten", ["pixel_values"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
    ]
    pixels = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["B", 3, 2, 2])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 2])
    tensors = [numpy_helper.from_array(weights, "weights")]
    graph = helper.make_graph(nodes, "lights", [pixels], [logits], tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(made, folder / "model.onnx")
    config = {
        "architectures": ["ViTForImageClassification"],
        "model_type": "vit",
        "id2label": {"0": "dark", "1": "light [bold]"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text('{"size": {"height": 2, "width": 2}}')
    return folder


def sources(output: str) -> dict[str, list[str]]:
    """Return value and source by key."""
    found = rows(output, "")
    return {row[0]: row[1:] for row in found if len(row) == 3}


def test_models_check_of_a_path_explains_what_was_inferred_and_from_which_file(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_export(repository.parent / "exports" / "lights")
    assert main(["models", "check", str(folder)]) == 0
    output = capsys.readouterr().out
    assert "lights/1: what was inferred, and from which file" in output
    told = sources(output)
    assert told["task"] == ['"classify"', "config.json: architectures"]
    assert told["graphs.fp32"] == ['{"model": "model.onnx"}', "model.onnx"]
    assert told["parameters.labels"] == ['["dark", "light [bold]"]', "config.json: id2label"]
    assert told["parameters.processing.size"][0] == "[2, 2]"
    assert [row[-1] for row in rows(output, "lights") if len(row) > 5] == ["passed"]
    assert not rows(output, "lamps")


def test_models_check_shows_what_model_toml_says_over_the_files(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_export(repository / "lights")
    (folder / "model.toml").write_text('[parameters]\nlabels = ["off", "on"]\n')
    assert main(["models", "check", "lights", "lamps"]) == 0
    output = capsys.readouterr().out
    told = sources(output)
    assert told["parameters.labels"] == ['["off", "on"]', "model.toml"]
    assert told["family"] == ['"image_classifier"', "config.json: architectures"]
    assert "lamps/1: what was inferred" not in output  # its model.toml says everything


def test_models_check_takes_paths_beside_names_and_paths_from_here(
    repository: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_export(repository.parent / "exports" / "lights"))
    assert main(["models", "check", "lamps", ".", "--models.only", "lamps"]) == 0
    output = capsys.readouterr().out
    assert [row[-1] for row in rows(output, "l") if len(row) > 5] == ["passed", "passed"]


@pytest.mark.parametrize(
    ("path", "breaking", "reason"),
    [
        ("exports/nothing", "", "exports/nothing: there is no such folder"),
        ("exports/two words", "", "'two words' cannot be a model's name: rename the folder"),
        ("exports/lights", "config.json", "add task, family to model.toml"),
        ("exports/lights", "model.onnx", "there is no model.onnx, at the top or under onnx/"),
    ],
)
def test_models_check_of_a_path_that_cannot_be_served_says_why(
    repository: Path,
    capsys: pytest.CaptureFixture[str],
    path: str,
    breaking: str,
    reason: str,
) -> None:
    folder = repository.parent / path
    if folder.name != "nothing":
        make_export(folder)
    if breaking:
        (folder / breaking).unlink()
    assert main(["models", "check", str(folder)]) == 1
    assert reason in capsys.readouterr().out.replace("\n", " ")


def test_models_check_of_an_empty_repository_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["models", "check", "--models.repository", str(tmp_path / "empty")]) == 1
    assert "there is no model to check" in capsys.readouterr().out


def test_settings_prints_the_page_of_the_documentation(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["settings"]) == 0
    assert capsys.readouterr().out == settings_page()


@pytest.mark.usefixtures("repository")
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["serve", "--server.prot", "1"], 2),
        (["serve", "--server.port", "x"], 2),
        (["serve", "--models.only", "lamp"], 1),
        (["serve", "--models.defaults", "classify.image=x"], 1),
        (["serve", "--models.repository", "/nowhere"], 1),
        (["serve", "--models.device", "tpu"], 1),
        (["serve", "--admin.token-file", "/nowhere"], 2),
        (["models", "list", "--models.repository", "/nowhere"], 1),
    ],
)
def test_what_cannot_be_obeyed_is_refused_in_a_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], status: int
) -> None:
    assert main(arguments) == status
    error = capsys.readouterr().err
    assert sentence(error.splitlines()[-1])
    assert "Traceback" not in error


def test_a_misspelt_variable_is_refused_whatever_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QUARTET_SERVER__PROT", "1")
    assert main(["models", "list"]) == 2
    assert "did you mean QUARTET_SERVER__PORT?" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["sing"], ["models"], ["models", "drop"]])
def test_an_unknown_command_is_misuse(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_a_lane_s_curve_names_the_batch_it_favours() -> None:
    point = {"length": 16, "favoured_batch": 4, "milliseconds": {"1": 1.0, "4": 2.5}}
    status = VersionStatus("m", 1, ModelState.READY, statistics={"text": {"curve": [point]}})
    (table,) = curve_tables(status)
    assert [column.header for column in table.columns] == ["length", "1", "4", "best size"]
    assert [next(iter(column.cells)) for column in table.columns] == [
        "16",
        "1.000",
        "2.500",
        "[bold]4[/bold]",
    ]
    assert Check("m", None, status).passed


@pytest.mark.integration  # it starts the service
def test_serve_answers_until_sigterm_and_exits_with_0(repository: Path) -> None:
    with serving(repository) as service:
        events = service.stop()
    assert service.process.returncode == 0
    assert "model ready" in {event["event"] for event in events}
    told = [event for event in events if event["event"] != "request"]  # 503 until it was ready
    assert {event["level"] for event in told} == {"info"}
