"""What is not served is refused with what it is and what can be done."""

import json
from pathlib import Path
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from service.errors import ModelLoadError
from service.repository.layouts.inference import infer
from tests.sentences import sentence


def graph(
    path: Path, outputs: dict[str, list[Any]], domain: str = "", images: bool = False
) -> None:
    """Write a graph of one operator with these outputs."""
    floats = TensorProto.FLOAT
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["b", "t"])]
    if images:
        inputs = [helper.make_tensor_value_info("input_ids", floats, ["b", 3, 64, 64])]
    made = [helper.make_tensor_value_info(name, floats, shape) for name, shape in outputs.items()]
    node = helper.make_node("Mystery", ["input_ids"], list(outputs), domain=domain)
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(domain or "ai.onnx.ml", 1)]
    model = helper.make_model(helper.make_graph([node], "g", inputs, made), opset_imports=opsets)
    onnx.save(model, path)


@pytest.mark.parametrize(
    "architecture",
    [
        "RobertaForQuestionAnswering",
        "GPT2LMHeadModel",
        "Qwen3ForCausalLM",
        "BartForConditionalGeneration",
        "OneFormerForUniversalSegmentation",
        "DPTForDepthEstimation",
        "VitPoseForPoseEstimation",
        "Swin2SRForImageSuperResolution",
        "VideoMAEForVideoClassification",
    ],
)
def test_an_architecture_says_what_it_does(architecture: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"architectures": [architecture]}))
    graph(tmp_path / "model.onnx", {"logits": ["b", "t", 9]})
    with pytest.raises(ModelLoadError, check=sentence) as found:
        infer(tmp_path)
    assert "add task" not in str(found.value)


def test_so_do_a_card_and_a_graph(tmp_path: Path) -> None:
    graph(tmp_path / "model.onnx", {"start_logits": ["b", "t"], "end_logits": ["b", "t"]})
    with pytest.raises(ModelLoadError, check=sentence):
        infer(tmp_path)
    graph(tmp_path / "model.onnx", {"logits": ["b", "t", 9], "present.0.key": ["b", 2, "t", 4]})
    with pytest.raises(ModelLoadError, check=sentence):
        infer(tmp_path)
    graph(tmp_path / "model.onnx", {"y": ["b", 9]})
    (tmp_path / "README.md").write_text("---\nlicense: mit\npipeline_tag: token-classification\n")
    with pytest.raises(ModelLoadError, check=sentence):
        infer(tmp_path)


def test_a_detector_that_a_text_tells_what_to_find_is_no_set_detector(tmp_path: Path) -> None:
    config = {"architectures": ["OwlViTForObjectDetection"], "model_type": "owlvit"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    graph(tmp_path / "model.onnx", {"logits": ["b", 9, 9], "pred_boxes": ["b", 9, 4]}, images=True)
    with pytest.raises(ModelLoadError, check=sentence):
        infer(tmp_path)


YUNET = {f"{kind}_{s}": [1, (64 // s) ** 2, 1] for kind in ("cls", "obj") for s in (8, 16, 32)}


@pytest.mark.parametrize(
    ("outputs", "model_type"),
    [
        (YUNET, ""),
        ({"output": [1, 85, 112]}, ""),
        ({"probs": ["b", 1000]}, ""),
        ({"logits": ["b", 150, 16, 16]}, ""),
        ({"predicted_depth": ["b", 64, 64]}, "dpt"),
        ({"heatmaps": ["b", 17, 16, 12]}, "vitpose"),
    ],
)
def test_a_bare_graph_of_images_says_what_it_may_be(
    outputs: dict[str, list[Any]], model_type: str, tmp_path: Path
) -> None:
    if model_type:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    graph(tmp_path / "some.onnx", outputs, images=True)
    with pytest.raises(ModelLoadError, check=sentence):
        infer(tmp_path)


def test_a_custom_operator_is_named(tmp_path: Path) -> None:
    graph(tmp_path / "model.onnx", {"y": ["b", 9]}, domain="com.my-company")
    with pytest.raises(ModelLoadError, check=sentence):
        infer(tmp_path)


def test_a_reranker_of_sentence_transformers_is_a_classifier_with_its_own_function(
    tmp_path: Path,
) -> None:
    step = {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}
    config = {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "LABEL_0"},
        "max_position_embeddings": 64,
        "pad_token_id": 0,
    }
    own = {"model_type": "CrossEncoder", "activation_fn": "torch.nn.modules.linear.Identity"}
    older = {"sbert_ce_default_activation_function": "torch.nn.modules.linear.Identity"}
    newer = {"sentence_transformers": {"activation_fn": "torch.nn.modules.activation.Sigmoid"}}
    graph(tmp_path / "model.onnx", {"logits": ["b", 1]})
    (tmp_path / "tokenizer.json").touch()
    for said, table, activation in (
        ({}, own, "none"),
        (older, {"model_type": "CrossEncoder"}, "none"),
        (newer, {"model_type": "CrossEncoder"}, "sigmoid"),
        ({}, {"model_type": "CrossEncoder", "activation_fn": "my.code"}, "sigmoid"),
        (older, None, "none"),
    ):
        (tmp_path / "config.json").write_text(json.dumps({**config, **said}))
        for name, value in (("modules", [step]), ("config_sentence_transformers", table)):
            path = tmp_path / f"{name}.json"
            path.write_text(json.dumps(value)) if table else path.unlink(missing_ok=True)
        found = infer(tmp_path).table
        assert found["family"] == "text_classifier"
        assert found["parameters"]["activation"] == activation


@pytest.mark.parametrize(
    ("files", "number"),
    [
        ({"tokenizer_config": {"pad_token": "<x>"}}, 7),
        ({"special_tokens_map": {"pad_token": {"content": "<w>"}}}, 3),
        ({"tokenizer": {"padding": {"pad_id": 5, "pad_token": "<p>"}}}, 5),
        ({"config": {"eos_token_id": [9, 8]}}, 9),
    ],
)
def test_padding_is_what_a_tokenizers_files_say(
    files: dict[str, Any], number: int, tmp_path: Path
) -> None:
    tokenizer = {"added_tokens": [{"id": 7, "content": "<x>"}], "model": {"vocab": {"<w>": 3}}}
    config = {"architectures": ["BertForSequenceClassification"], "max_position_embeddings": 64}
    tables = {"tokenizer": tokenizer, "config": config}
    for name, table in {**tables, **files}.items():
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps({**tables.get(name, {}), **table}))
    graph(tmp_path / "model.onnx", {"logits": ["b", 2]})
    assert infer(tmp_path).table["parameters"]["pad_id"] == number
