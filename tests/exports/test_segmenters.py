"""SegFormer and DETR with masks from export directories, against transformers on PyTorch."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

import transformers as tf  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from service import tasks  # noqa: E402
from service.families.set_segmenter import (  # noqa: E402
    SetSegmenterParameters,
    open_set_segmenter,
)
from service.repository.manifest import read_parameters  # noqa: E402
from service.tasks import DetectedObject, Detections, DetectItem  # noqa: E402
from service.transforms.vision.regions import mask_of  # noqa: E402
from tests.exports.exporting import export_directory, seeded, settled  # noqa: E402
from tests.exports.pictures import FILES, PICTURES  # noqa: E402
from tests.exports.serving import answers  # noqa: E402
from tests.unit.families.sessions import IMAGE_INPUTS, NumpySession  # noqa: E402

pytestmark = [pytest.mark.looptime(False)]

LABELS = {"id2label": {0: "wall", 1: "person", 2: "tree", 3: "car"}}
MOST_WRONG = 0.001
"""Share of the pixels where two labels are equally likely but for rounding."""


def pixels(one: DetectedObject, answer: Detections) -> NDArray[np.bool_]:
    assert one.mask is not None
    assert one.mask.rle is not None
    return mask_of(one.mask.rle.encode(), (answer.height, answer.width))


async def test_segformer_gives_each_pixel_the_label_of_transformers(tmp_path: Path) -> None:
    config = tf.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=32, **LABELS,
    )  # fmt: skip
    model = seeded(tf.SegformerForSemanticSegmentation, config)
    processor = tf.SegformerImageProcessor(size={"height": 96, "width": 128})
    inputs = processor(PICTURES, return_tensors="pt")
    settled(model, inputs)
    folder = export_directory(model, processor, tmp_path / "m", "semantic-segmentation")
    with torch.no_grad():
        outputs = model(**inputs)
    sizes = [image.size[::-1] for image in PICTURES]
    wanted = processor.post_process_semantic_segmentation(outputs, sizes)
    for found in await answers(folder, [DetectItem(tasks.Image(file)) for file in FILES]):
        seen = set[str]()
        for answer, labels in zip(found, wanted, strict=True):
            mine = np.full(labels.shape, -1)
            for one in answer.objects:
                number = next(n for n, name in LABELS["id2label"].items() if name == one.label)
                mine[pixels(one, answer)] = number
                seen.add(one.label)
            assert (mine != labels.numpy()).mean() <= MOST_WRONG
        assert len(seen) > 1


async def test_detr_finds_the_segments_of_transformers(tmp_path: Path) -> None:
    backbone = tf.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 8, 12, 16], depths=[1, 1, 1, 1], layer_type="basic",
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = tf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone_config=backbone,
        backbone=None, d_model=64, encoder_layers=1, decoder_layers=1, encoder_ffn_dim=32,
        decoder_ffn_dim=32, encoder_attention_heads=8, decoder_attention_heads=8,
        num_queries=12, **LABELS,
    )  # fmt: skip
    model = seeded(tf.DetrForSegmentation, config)
    processor = tf.DetrImageProcessor(size={"shortest_edge": 64, "longest_edge": 110})
    settled(model, processor(PICTURES, return_tensors="pt"))
    with torch.no_grad():  # so that queries differ, and each of them finds something
        model.detr.model.query_position_embeddings.weight.normal_(0, 4)
        model.mask_head.out_lay.weight.mul_(20)
        model.detr.class_labels_classifier.weight.mul_(6)
        model.detr.class_labels_classifier.bias[-1] = -20
    folder = export_directory(model, processor, tmp_path / "m", "image-segmentation")
    items, wanted = [], []
    for file, image in zip(FILES, PICTURES, strict=True):
        with torch.no_grad():
            outputs = model(**processor(image, return_tensors="pt"))
        (segments,) = processor.post_process_panoptic_segmentation(
            outputs, target_sizes=[image.size[::-1]]
        )
        items.append(DetectItem(tasks.Image(file)))
        wanted.append(segments)
    assert all(one["segments_info"] for one in wanted)
    for found in await answers(folder, items):
        for answer, one in zip(found, wanted, strict=True):
            compare(answer, one)


def test_several_segments_are_those_of_transformers() -> None:
    """The outputs are made up: random weights find one segment of an image."""
    random = np.random.default_rng(0)
    processor, sizes = tf.MaskFormerImageProcessor(), [image.size[::-1] for image in PICTURES]
    logits = random.normal(0, 3, (len(FILES), 9, 5)).astype(np.float32)
    logits[..., :-1] += 2
    rough = random.normal(-3, 6, (len(FILES), 9, 3, 3)).astype(np.float32)
    masks = torch.nn.functional.interpolate(torch.from_numpy(rough), (24, 32), mode="bicubic")
    outputs = SimpleNamespace(
        class_queries_logits=torch.from_numpy(logits), masks_queries_logits=masks
    )
    wanted = processor.post_process_panoptic_segmentation(
        outputs, overlap_mask_area_threshold=0.4, target_sizes=sizes
    )
    assert sum(len(one["segments_info"]) for one in wanted) > 2 * len(wanted)
    parameters = {
        "labels": [*LABELS["id2label"].values()],
        "processing": {"size": [24, 32]},
        "visible_share": 0.4,
    }
    family = open_set_segmenter(Path(), read_parameters(parameters, SetSegmenterParameters))
    session = NumpySession(
        lambda _: {"class_queries_logits": logits, "masks_queries_logits": masks.numpy()},
        IMAGE_INPUTS,
    )
    items = [DetectItem(tasks.Image(file)) for file in FILES]
    prepared = [family.processor.preprocess(item) for item in items]
    results = family.model.infer({"model": session}, prepared)
    for result, item, one in zip(results, items, wanted, strict=True):
        compare(family.processor.postprocess(result, item), one)


def compare(answer: Detections, wanted: dict[str, Any]) -> None:
    numbers = wanted["segmentation"].numpy()
    infos = sorted(wanted["segments_info"], key=lambda info: -info["score"])
    assert [one.label for one in answer.objects] == [
        LABELS["id2label"][info["label_id"]] for info in infos
    ]
    for one, info in zip(answer.objects, infos, strict=True):
        assert one.score == pytest.approx(info["score"], abs=1e-4)
        wrong = pixels(one, answer) != (numbers == info["id"])
        assert wrong.mean() <= MOST_WRONG
