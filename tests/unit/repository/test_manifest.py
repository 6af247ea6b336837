from dataclasses import FrozenInstanceError, dataclass
from pathlib import Path
from typing import Literal

import pytest

from service.errors import ModelLoadError
from service.repository.manifest import Batching, Manifest, read_manifest, read_parameters
from service.tasks import Task
from tests.sentences import sentence

SMALL = """
task = "classify"
family = "text_classifier"
[graphs.fp32]
model = "model.onnx"
"""

FULL = """
task = "translate"
family = "encoder_decoder"
description = "Chinese to English"
[graphs.fp32]
encoder = "encoder_model.onnx"
decoder = "decoder_model.onnx"
[graphs.int8]
encoder = "int8/encoder_model.onnx"
decoder = "int8/decoder_model.onnx"
[default_precision]
cpu = "int8"
[batching]
max_batch_size = 16
max_queue_size = 64
max_batch_cost = 4096
[tolerance]
fp32 = 0
int8 = 0.25
[parameters]
num_beams = 4
"""


def read(tmp_path: Path, text: str) -> Manifest:
    folder = tmp_path / "topics" / "3"
    folder.mkdir(parents=True)
    (folder / "model.toml").write_text(text, encoding="utf-8")
    return read_manifest(folder / "model.toml")


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    manifest = read(tmp_path, SMALL)
    assert manifest == Manifest(
        Task.CLASSIFY, "text_classifier", {"fp32": {"model": "model.onnx"}}, batching=Batching()
    )
    assert (manifest.batching.max_batch_size, manifest.batching.max_queue_size) == (32, 256)


def test_one_precision_is_for_every_device(tmp_path: Path) -> None:
    text = 'default_precision = "int8"\n' + FULL.replace('[default_precision]\ncpu = "int8"\n', "")
    assert read(tmp_path, text).default_precision == {"cpu": "int8", "cuda": "int8"}


def test_every_key_is_read(tmp_path: Path) -> None:
    manifest = read(tmp_path, FULL)
    assert manifest.task is Task.TRANSLATE
    assert manifest.graphs["int8"]["decoder"] == "int8/decoder_model.onnx"
    assert manifest.default_precision == {"cpu": "int8"}
    assert manifest.batching == Batching(16, 64, 4096)
    assert manifest.tolerance == {"fp32": 0.0, "int8": 0.25}
    assert manifest.parameters == {"num_beams": 4}


def test_a_manifest_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(FrozenInstanceError):
        read(tmp_path, SMALL).family = "detector"  # type: ignore[misc]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(SMALL.replace("family", "famly"), id="a misspelt key"),
        pytest.param(SMALL + "[batching]\nmax-batch-sise = 4", id="a misspelt nested key"),
        pytest.param(SMALL.replace("family =", "#"), id="a missing key"),
        pytest.param(SMALL.replace("classify", "classfy"), id="an unknown task"),
        pytest.param(SMALL.replace("fp32", "fp33"), id="an unknown precision"),
        pytest.param(SMALL + '[batching]\nmax_batch_size = "4"', id="a string for a number"),
        pytest.param(SMALL + "[batching]\nmax_batch_size = true", id="true for 1"),
        pytest.param(SMALL + "[batching]\nmax_queue_size = 0", id="a queue without room"),
        pytest.param(SMALL + "[tolerance]\nfp32 = nan", id="a NaN"),
        pytest.param(SMALL + '[default_precision]\ncpu = "int8"', id="a default that is absent"),
        pytest.param(SMALL + '[default_precision]\ngpu = "fp32"', id="an unknown kind of device"),
        pytest.param(SMALL + "[tolerance]\nint8 = 0.1", id="a tolerance of an absent precision"),
        pytest.param(
            SMALL + '[graphs.int8]\nencoder = "e.onnx"', id="precisions with other sessions"
        ),
        pytest.param('task = "embed"\nfamily = "dual_encoder"\n[graphs]', id="no graphs"),
        pytest.param('task = "embed"\nfamily = "dual_encoder"\n[graphs.fp32]', id="no sessions"),
        pytest.param(SMALL.replace("model.onnx", "../2/model.onnx"), id="a graph outside"),
        pytest.param(SMALL.replace("model.onnx", "/etc/model.onnx"), id="an absolute path"),
        pytest.param(SMALL.replace("model.onnx", "model.ort"), id="another format"),
        pytest.param(SMALL + "x = 2026-01-01", id="a date"),
        pytest.param("task = ", id="no TOML"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_reason(tmp_path: Path, text: str) -> None:
    with pytest.raises(ModelLoadError) as refusal:
        read(tmp_path, text)
    assert sentence(str(refusal.value))
    assert str(tmp_path) not in str(refusal.value)


def test_all_mistakes_are_named_at_once(tmp_path: Path) -> None:
    text = SMALL.replace("classify", "sing") + "[batching]\nmax_batch_size = -1\nspeed = 3"
    with pytest.raises(ModelLoadError, match=r"speed.*task.*max_batch_size"):
        read(tmp_path, text)


def test_a_manifest_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        read_manifest(tmp_path / "topics" / "1" / "model.toml")


def test_a_manifest_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelLoadError, check=sentence):
        read_manifest(path)


@dataclass(frozen=True, slots=True)
class Resize:
    kind: Literal["stretch", "letterbox"]
    pad: int = 114


@dataclass(frozen=True, slots=True)
class Parameters:
    labels: tuple[str, ...]
    image_size: tuple[int, int]
    mean: tuple[float, ...] = (0.5,)
    resize: Resize = Resize("stretch")

    def __post_init__(self) -> None:
        if len(set(self.labels)) < len(self.labels):
            raise ValueError("labels must differ")


def test_parameters_become_the_family_s_own_frozen_dataclass() -> None:
    table = {"labels": ["a"], "image_size": [28, 28], "mean": [1], "resize": {"kind": "letterbox"}}
    parameters = read_parameters(table, Parameters)
    assert parameters == Parameters(("a",), (28, 28), (1.0,), Resize("letterbox"))
    assert type(parameters) is Parameters


@pytest.mark.parametrize(
    "change",
    [
        {"lables": []},
        {"zebra": 1},
        {"resize": {"kind": "stretch", "pads": 1}},
        {"resize": "stretch"},
        {"resize": {"kind": "crop"}},
        {"labels": ["a", 1]},
        {"labels": "ab"},
        {"image_size": [28]},
        {"image_size": [28.5, 28]},
        {"image_size": ["28", 28]},
        {"labels": ["a", "a"]},
    ],
)
def test_wrong_parameters_are_refused_with_the_reason(change: dict[str, object]) -> None:
    with pytest.raises(ModelLoadError) as refusal:
        read_parameters({"labels": ["a"], "image_size": [28, 28]} | change, Parameters)
    assert sentence(str(refusal.value))


def test_the_place_of_wrong_parameters_can_be_named() -> None:
    with pytest.raises(ModelLoadError, check=sentence):
        read_parameters({"image_size": [1, 1]}, Parameters, "topics/1/model.toml")
