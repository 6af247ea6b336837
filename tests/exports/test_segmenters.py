"""Segmenters from export directories, against transformers on PyTorch."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
pytest.importorskip("optimum.exporters.onnx", reason='needs the extra "train"')

import transformers as tf  # noqa: E402
from numpy.typing import NDArray  # noqa: E402
from optimum.exporters.onnx.model_configs import MaskFormerOnnxConfig  # noqa: E402

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
BACKBONE = tf.ResNetConfig(
    embedding_size=8, hidden_sizes=[8, 8, 12, 16], depths=[1, 1, 1, 1], layer_type="basic",
    out_features=["stage1", "stage2", "stage3", "stage4"],
)  # fmt: skip
SIDE = 64
"""Of images of a graph of one size: Optimum's Mask2Former keeps that of the export."""
MOST_WRONG = 0.001
"""Share of the pixels where two labels are equally likely but for rounding."""


def pixels(one: DetectedObject, answer: Detections) -> NDArray[np.bool_]:
    assert one.mask is not None
    assert one.mask.rle is not None
    return mask_of(one.mask.rle.encode(), (answer.height, answer.width))


def segformer() -> tuple[Any, Any]:
    config = tf.SegformerConfig(
        depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=32, **LABELS,
    )  # fmt: skip
    model = seeded(tf.SegformerForSemanticSegmentation, config)
    return model, tf.SegformerImageProcessor(size={"height": 96, "width": 128})


def dpt() -> tuple[Any, Any]:
    config = tf.DPTConfig(
        hidden_size=32, num_hidden_layers=4, num_attention_heads=4, intermediate_size=32,
        image_size=SIDE, backbone_out_indices=[0, 1, 2, 3], neck_hidden_sizes=[8, 8, 16, 16],
        fusion_hidden_size=16, **LABELS,
    )  # fmt: skip
    model = seeded(tf.DPTForSemanticSegmentation, config)
    return model, tf.DPTImageProcessor(size={"height": SIDE, "width": SIDE})


@pytest.mark.parametrize("kind", [segformer, dpt])
async def test_each_pixel_has_the_label_of_transformers(
    kind: Callable[[], tuple[Any, Any]], tmp_path: Path
) -> None:
    model, processor = kind()
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
            compare_labels(answer, labels)
            seen.update(one.label for one in answer.objects)
        assert len(seen) > 1


async def test_detr_finds_the_segments_of_transformers(tmp_path: Path) -> None:
    config = tf.DetrConfig(
        use_timm_backbone=False, use_pretrained_backbone=False, backbone_config=BACKBONE,
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


def maskformer() -> tuple[Any, Any]:
    decoder = tf.DetrConfig(
        d_model=32, decoder_layers=1, decoder_ffn_dim=32, decoder_attention_heads=4, num_queries=12
    )
    config = tf.MaskFormerConfig(
        backbone_config=BACKBONE, decoder_config=decoder, fpn_feature_size=32, mask_feature_size=16,
        **LABELS,
    )  # fmt: skip
    model = seeded(tf.MaskFormerForInstanceSegmentation, config)
    with torch.no_grad():  # so that queries differ
        model.model.transformer_module.queries_embedder.weight.normal_(0, 4)
    return model, tf.MaskFormerImageProcessor(size={"shortest_edge": 64, "longest_edge": 110})


def mask2former() -> tuple[Any, Any]:
    config = tf.Mask2FormerConfig(
        backbone_config=BACKBONE, feature_size=32, mask_feature_size=32, hidden_dim=32,
        encoder_feedforward_dim=32, encoder_layers=1, decoder_layers=2, num_attention_heads=4,
        dim_feedforward=32, num_queries=12, **LABELS,
    )  # fmt: skip
    model = seeded(tf.Mask2FormerForUniversalSegmentation, config)
    return model, tf.Mask2FormerImageProcessor(size={"height": SIDE, "width": SIDE})


OPTIONS: dict[str, dict[str, Any]] = {
    "panoptic": {"overlap_mask_area_threshold": 0.1},
    "instance": {"return_binary_maps": True},
    "semantic": {},
}


def spread(layer: Any, scale: float, run: Callable[[], object]) -> None:
    """Make what a linear layer gives in a run differ from row to row, as random weights do not."""
    seen = list[Any]()
    hook = layer.register_forward_hook(lambda _, inputs, output: seen.append((*inputs, output)))
    with torch.no_grad():
        run()
        hook.remove()
        given, made = (torch.cat([one[at].flatten(0, -2) for one in seen]) for at in (0, 1))
        layer.weight.mul_((scale / made.std(0))[:, None])
        layer.bias.copy_(-layer.weight @ given.mean(0))


@pytest.mark.parametrize("segments", ["panoptic", "instance", "semantic"])
@pytest.mark.parametrize("kind", [maskformer, mask2former])
async def test_mask_queries_become_the_segments_of_transformers(
    kind: Callable[[], tuple[Any, Any]], segments: str, tmp_path: Path
) -> None:
    model, processor = kind()
    inputs = processor(PICTURES, return_tensors="pt")
    settled(model, inputs)
    masks = next(one for name, one in model.named_modules() if name.endswith("mask_embedder"))
    one = processor(PICTURES[0], return_tensors="pt")
    spread(model.class_predictor, 3, lambda: model(**one))
    spread(masks.get_submodule("2.0"), 3, lambda: model(**one))
    with torch.no_grad():
        model.class_predictor.bias[-1] -= 4  # "no object"
    is_known = kind is maskformer
    folder = export_directory(
        model, processor, tmp_path / "m", "image-segmentation",
        architecture=None if is_known else MaskFormerOnnxConfig,
    )  # fmt: skip
    (folder / "model.toml").write_text(
        f'[parameters]\nsegments = "{segments}"\nvisible_share = 0.1\n'
    )
    items, wanted = [], []
    for file, image in zip(FILES, PICTURES, strict=True):
        with torch.no_grad():
            outputs = model(**processor(image, return_tensors="pt"))
        read = getattr(processor, f"post_process_{segments}_segmentation")
        wanted.append(read(outputs, target_sizes=[image.size[::-1]], **OPTIONS[segments])[0])
        items.append(DetectItem(tasks.Image(file)))
    compared = {"panoptic": compare, "instance": compare_instances, "semantic": compare_labels}
    for found in await answers(folder, items):
        assert len(found[0].objects) > 1
        for answer, one in zip(found, wanted, strict=True):
            compared[segments](answer, one)


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


def compare_labels(answer: Detections, wanted: Any) -> None:
    mine = np.full(wanted.shape, -1)
    for one in answer.objects:
        number = next(n for n, name in LABELS["id2label"].items() if name == one.label)
        mine[pixels(one, answer)] = number
    assert (mine != wanted.numpy()).mean() <= MOST_WRONG


def compare_instances(answer: Detections, wanted: dict[str, Any]) -> None:
    """Compare masks, which may overlap; transformers returns as many maps as segments."""
    infos, maps = wanted["segments_info"], wanted["segmentation"].numpy()
    order = sorted(range(len(infos)), key=lambda at: -infos[at]["score"])
    assert [one.label for one in answer.objects] == [
        LABELS["id2label"][infos[at]["label_id"]] for at in order
    ]
    for one, at in zip(answer.objects, order, strict=True):
        assert one.score == pytest.approx(infos[at]["score"], abs=1e-4)
        assert (pixels(one, answer) != (maps[at] == 1)).mean() <= MOST_WRONG
