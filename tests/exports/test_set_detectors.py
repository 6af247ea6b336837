"""DETR, YOLOS, RT-DETR and D-FINE from export directories, against transformers on PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

import transformers as tf  # noqa: E402

from service import tasks  # noqa: E402
from service.tasks import Detections, DetectItem  # noqa: E402
from tests.exports.exporting import export_directory, seeded, settled  # noqa: E402
from tests.exports.pictures import FILES, PICTURES  # noqa: E402
from tests.exports.serving import answers  # noqa: E402

pytestmark = [pytest.mark.looptime(False)]

LABELS = {"id2label": {0: "N/A", 1: "person", 2: "N/A", 3: "car"}}
"""Two of the same name, as in COCO."""
EDGES = {"shortest_edge": 64, "longest_edge": 110}
BACKBONE = {"embedding_size": 8, "hidden_sizes": [8, 8, 12, 16], "depths": [1, 1, 1, 1]}


def _detr() -> tuple[Any, Any]:
    backbone = tf.ResNetConfig(**BACKBONE, layer_type="basic", out_features=["stage4"])
    config = tf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone_config=backbone,
        backbone=None, d_model=32, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32,
        decoder_ffn_dim=32, encoder_attention_heads=4, decoder_attention_heads=4,
        num_queries=12, **LABELS,
    )  # fmt: skip
    return seeded(tf.DetrForObjectDetection, config), tf.DetrImageProcessor(size=EDGES)


def _yolos() -> tuple[Any, Any]:
    config = tf.YolosConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48,
        image_size=[64, 96], patch_size=16, num_detection_tokens=12,
        use_mid_position_embeddings=False, **LABELS,
    )  # fmt: skip
    model = seeded(tf.YolosForObjectDetection, config)
    with torch.no_grad():  # they begin as zeros, so that every query would answer the same
        model.vit.embeddings.detection_tokens.normal_(0, 1)
    return model, tf.YolosImageProcessor(size=EDGES)


_SIZED = {"anchor_image_size": None, "num_queries": 12, "num_denoising": 0}
_SMALL = {
    "d_model": 32, "encoder_hidden_dim": 32, "encoder_in_channels": [8, 12, 16],
    "encoder_ffn_dim": 32, "encoder_attention_heads": 4, "decoder_layers": 2,
    "decoder_in_channels": [32, 32, 32], "decoder_ffn_dim": 32, "decoder_attention_heads": 4,
    "hidden_expansion": 1.0, "feat_strides": [8, 16, 32],
}  # fmt: skip


def _rt_detr() -> tuple[Any, Any]:
    backbone = tf.RTDetrResNetConfig(
        **BACKBONE, layer_type="basic", out_features=["stage2", "stage3", "stage4"]
    )
    config = tf.RTDetrConfig(backbone_config=backbone, **_SMALL, **_SIZED, **LABELS)
    processor = tf.RTDetrImageProcessor(size={"height": 96, "width": 96})
    return seeded(tf.RTDetrForObjectDetection, config), processor


def _d_fine() -> tuple[Any, Any]:
    backbone = tf.HGNetV2Config(
        embedding_size=8, stem_channels=[3, 8, 8], hidden_sizes=[8, 8, 12, 16],
        stage_in_channels=[8, 8, 8, 12], stage_mid_channels=[8, 8, 8, 8],
        stage_out_channels=[8, 8, 12, 16], stage_num_blocks=[1, 1, 1, 1],
        stage_numb_of_layers=[1, 1, 1, 1],
        out_features=["stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.DFineConfig(
        backbone_config=backbone, **_SMALL, **_SIZED, **LABELS, decoder_n_points=[4, 4, 4]
    )
    processor = tf.RTDetrImageProcessor(size={"height": 96, "width": 96})
    model = seeded(tf.DFineForObjectDetection, config)
    for module in model.model.backbone.modules():  # its own first weights let nothing through
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    return model, processor


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "DETR": _detr,
    "YOLOS": _yolos,
    "RT-DETR": _rt_detr,
    "D-FINE": _d_fine,
}


def outputs_of(model: Any, processor: Any, image: Any) -> Any:
    with torch.no_grad():
        return model(**processor(image, return_tensors="pt"))


def expected(model: Any, processor: Any, image: Any) -> tuple[float, dict[str, np.ndarray]]:
    """A threshold that separates some objects, and those as transformers has them."""
    outputs, size = outputs_of(model, processor, image), [image.size[::-1]]
    (every,) = processor.post_process_object_detection(outputs, 0.0, target_sizes=size)
    scores = np.sort(every["scores"].numpy())[::-1]
    widest = 2 + int(np.argmax(scores[2:8] - scores[3:9]))
    threshold = float(scores[widest] + scores[widest + 1]) / 2
    (objects,) = processor.post_process_object_detection(outputs, threshold, target_sizes=size)
    return threshold, {name: value.numpy() for name, value in objects.items()}


def compare(answer: Detections, wanted: dict[str, np.ndarray], labels: dict[int, str]) -> None:
    order = np.argsort(-wanted["scores"], kind="stable")
    assert [one.label for one in answer.objects] == [labels[n] for n in wanted["labels"][order]]
    scores = [one.score for one in answer.objects]
    np.testing.assert_allclose(scores, wanted["scores"][order], atol=1e-4)
    boxes = np.array([one.box for one in answer.objects]).reshape(-1, 4)
    np.testing.assert_allclose(boxes, wanted["boxes"][order], atol=0.05)


@pytest.mark.parametrize("name", MODELS)
async def test_it_answers_as_transformers_alone_and_in_a_batch(name: str, tmp_path: Path) -> None:
    model, processor = MODELS[name]()
    settled(model, processor(PICTURES, return_tensors="pt"))
    folder = export_directory(model, processor, tmp_path / "m", "object-detection")
    wanted = [expected(model, processor, image) for image in PICTURES]
    assert len({round(threshold, 5) for threshold, _ in wanted}) > 3, "all answers are alike"
    items = [
        DetectItem(tasks.Image(file), threshold=threshold)
        for file, (threshold, _) in zip(FILES, wanted, strict=True)
    ]
    alone, together = await answers(folder, items)
    for found in (alone, together):
        for answer, image, (_, objects) in zip(found, PICTURES, wanted, strict=True):
            assert (answer.width, answer.height) == image.size
            assert len(answer.objects) > 2
            compare(answer, objects, model.config.id2label)
