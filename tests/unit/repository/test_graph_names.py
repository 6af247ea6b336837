"""Names that exporters, optimisers and quantisers give to the graphs of one model."""

from pathlib import Path

import pytest

from service.repository.layouts.exports import read_export

TRANSFORMERS_JS = {
    "model.onnx": "fp32",
    "model_fp16.onnx": "fp16",
    "model_quantized.onnx": "int8",
    "model_uint8.onnx": "uint8",
    "model_q4.onnx": "q4",
    "model_q4f16.onnx": "q4f16",
    "model_bnb4.onnx": "bnb4",
}
SENTENCE_TRANSFORMERS = {
    "model_O3.onnx": "fp32",
    "model_O4.onnx": "fp16",
    "model_qint8_avx512_vnni.onnx": "int8",
    "model_quint8_avx2.onnx": "uint8",
}
OPTIMUM = {"model_optimized.onnx": "fp32", "model_optimized_quantized.onnx": "int8"}


@pytest.mark.parametrize("names", [TRANSFORMERS_JS, SENTENCE_TRANSFORMERS, OPTIMUM])
def test_the_end_of_a_name_is_the_precision(names: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "onnx").mkdir()
    for name in names:
        (tmp_path / "onnx" / name).touch()
    wanted = {precision: f"onnx/{name}" for name, precision in names.items()}
    assert read_export(tmp_path).graphs == {"model": wanted}


@pytest.mark.parametrize(
    ("names", "first"),
    [
        (["model_O1.onnx", "model_O3.onnx", "model_optimized.onnx", "model.onnx"], "model.onnx"),
        (["model_O1.onnx", "model_O2.onnx", "model_O3.onnx"], "model_O3.onnx"),
        (["model_int8.onnx", "model_quantized.onnx"], "model_quantized.onnx"),
        (["model_qint8_arm64.onnx", "model_qint8_avx512.onnx"], "model_qint8_avx512.onnx"),
    ],
)
def test_of_several_of_one_precision_one_is_taken(
    names: list[str], first: str, tmp_path: Path
) -> None:
    for name in names:
        (tmp_path / name).touch()
    assert list(read_export(tmp_path).graphs["model"].values()) == [first]


def test_every_part_of_a_translator_may_be_optimised_and_quantised(tmp_path: Path) -> None:
    roles = ("encoder_model", "decoder_model_merged", "decoder_with_past_model")
    for role in roles:
        (tmp_path / f"{role}_optimized_quantized.onnx").touch()
    graphs = read_export(tmp_path).graphs
    assert graphs == {role: {"int8": f"{role}_optimized_quantized.onnx"} for role in roles}
