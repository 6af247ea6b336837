"""Image classifiers, served from plain export directories, against transformers on PyTorch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

import transformers as tf  # noqa: E402

from service import tasks  # noqa: E402
from service.tasks import ClassifyItem  # noqa: E402
from tests.exports.exporting import export_directory, seeded, settled  # noqa: E402
from tests.exports.pictures import FILES, PICTURES  # noqa: E402
from tests.exports.serving import answers  # noqa: E402

pytestmark = [pytest.mark.looptime(False)]

LABELS = {"id2label": {0: "crane", 1: "cat", 2: "crane", 3: "dog", 4: "N/A"}}
"""Two of the same name, as in ImageNet."""
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4}
VIT = {**SMALL, "intermediate_size": 48, "image_size": 32, "patch_size": 8}
STAGES = {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 12, 16, 24]}


def _resnet() -> tuple[Any, Any]:
    config = tf.ResNetConfig(embedding_size=8, layer_type="basic", **STAGES, **LABELS)
    return seeded(tf.ResNetForImageClassification, config), tf.ConvNextImageProcessor(
        size={"shortest_edge": 48}, crop_pct=0.875, resample=3
    )


def _vit() -> tuple[Any, Any]:
    model = seeded(tf.ViTForImageClassification, tf.ViTConfig(**VIT, **LABELS))
    return model, tf.ViTImageProcessor(size={"height": 32, "width": 32})


def _deit() -> tuple[Any, Any]:
    model = seeded(tf.DeiTForImageClassification, tf.DeiTConfig(**VIT, **LABELS))
    size, crop = {"height": 40, "width": 40}, {"height": 32, "width": 32}
    return model, tf.DeiTImageProcessor(size=size, crop_size=crop)


def _convnext() -> tuple[Any, Any]:
    config = tf.ConvNextConfig(**STAGES, **LABELS)
    model = seeded(tf.ConvNextForImageClassification, config)
    return model, tf.ConvNextImageProcessor(size={"shortest_edge": 384})


def _mobilenet() -> tuple[Any, Any]:
    config = tf.MobileNetV2Config(depth_multiplier=0.25, image_size=64, **LABELS)
    model = seeded(tf.MobileNetV2ForImageClassification, config)
    size, crop = {"shortest_edge": 72}, {"height": 64, "width": 64}
    return model, tf.MobileNetV2ImageProcessor(size=size, crop_size=crop)


def _swin() -> tuple[Any, Any]:
    config = tf.SwinConfig(
        image_size=32, patch_size=4, embed_dim=12, depths=[1, 1], num_heads=[2, 2],
        window_size=4, **LABELS,
    )  # fmt: skip
    model = seeded(tf.SwinForImageClassification, config)
    return model, tf.ViTImageProcessor(size={"height": 32, "width": 32}, resample=3)


def _efficientnet() -> tuple[Any, Any]:
    config = tf.EfficientNetConfig(
        image_size=48, width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320, **LABELS
    )
    model = seeded(tf.EfficientNetForImageClassification, config)
    for module in model.modules():  # its own first weights let nothing through
        if isinstance(module, torch.nn.Conv2d):
            torch.nn.init.kaiming_normal_(module.weight)
    size, crop = {"height": 52, "width": 52}, {"height": 48, "width": 48}
    return model, tf.EfficientNetImageProcessor(size=size, do_center_crop=True, crop_size=crop)


def _efficientnet_with_offset() -> tuple[Any, Any]:
    model, _ = _efficientnet()
    return model, tf.EfficientNetImageProcessor(
        size={"height": 48, "width": 48}, rescale_factor=1 / 127.5, rescale_offset=True,
        include_top=False, do_normalize=False, resample=2,
    )  # fmt: skip


MODELS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "ResNet": _resnet,
    "ViT": _vit,
    "DeiT": _deit,
    "ConvNeXt": _convnext,
    "MobileNet-V2": _mobilenet,
    "Swin": _swin,
    "EfficientNet": _efficientnet,
    "EfficientNet with an offset": _efficientnet_with_offset,
}


def expected(model: Any, processor: Any) -> np.ndarray:
    """Logits of transformers, image by image."""
    with torch.no_grad():
        rows = [
            model(**processor(image, return_tensors="pt")).logits[0].numpy() for image in PICTURES
        ]
    return np.array(rows)


def scores_of(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


@pytest.mark.parametrize("name", MODELS)
async def test_it_answers_as_transformers_alone_and_in_a_batch(name: str, tmp_path: Path) -> None:
    model, processor = MODELS[name]()
    settled(model, processor(PICTURES, return_tensors="pt"))
    folder = export_directory(model, processor, tmp_path / "m", "image-classification")
    wanted = expected(model, processor)
    assert np.ptp(wanted, axis=0).max() > 1e-2, "every picture has the same answer"
    alone, together = await answers(folder, [ClassifyItem(tasks.Image(file)) for file in FILES])
    for found in (alone, together):
        for answer, logits in zip(found, wanted, strict=True):
            scores = scores_of(logits)
            order = np.argsort(-scores, kind="stable")
            assert [label.name for label in answer.labels] == [
                model.config.id2label[number] for number in order.tolist()
            ]
            np.testing.assert_allclose(
                [label.score for label in answer.labels], scores[order], atol=1e-5
            )
            # Logits are known up to a sum; without it they are the logarithms of the scores.
            logarithms = np.log([label.score for label in answer.labels])
            np.testing.assert_allclose(
                logarithms - logarithms.mean(), logits[order] - logits.mean(), atol=1e-4
            )
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_allclose(
            [label.score for label in one.labels],
            [label.score for label in other.labels],
            atol=1e-6,
        )


async def test_several_labels_at_once_are_scored_each_by_itself(tmp_path: Path) -> None:
    config = tf.ViTConfig(**VIT, **LABELS, problem_type="multi_label_classification")
    model, processor = seeded(tf.ViTForImageClassification, config), _vit()[1]
    folder = export_directory(model, processor, tmp_path / "m", "image-classification")
    wanted = np.sort(1 / (1 + np.exp(-expected(model, processor))), axis=1)[:, ::-1]
    found, _ = await answers(folder, [ClassifyItem(tasks.Image(file)) for file in FILES])
    scores = [[label.score for label in answer.labels] for answer in found]
    np.testing.assert_allclose(scores, wanted, atol=1e-4)
