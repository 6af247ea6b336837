"""Pixels, compared with transformers' image processors by the files that those write."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason='needs the extra "train"')
tf = pytest.importorskip("transformers", reason='needs the extra "train"')

from PIL import Image  # noqa: E402

from service.repository.layouts.exports import read_export  # noqa: E402
from service.repository.layouts.facts import Fact, Unknown  # noqa: E402
from service.repository.layouts.processors import processing_facts  # noqa: E402
from service.repository.manifest import read_parameters  # noqa: E402
from service.transforms.vision.processing import ImageProcessor, Processing  # noqa: E402
from tests.exports.pictures import PICTURES, picture  # noqa: E402

# Extremes of shape, and the edge where DETR keeps an image that YOLOS still shrinks.
IMAGES = [*PICTURES, picture((7, 5), 20), picture((600, 1334), 21), picture((1334, 600), 22)]

EDGE, SQUARE = {"shortest_edge": 48}, {"height": 40, "width": 56}
CROP = {"height": 64, "width": 50}
DETR_SIZES: list[dict[str, Any]] = [
    {},
    {"size": {"shortest_edge": 60, "longest_edge": 100}},
    {"size": SQUARE, "do_pad": False},
    {"size": {"max_height": 80, "max_width": 100}, "resample": 3},
]
PROCESSORS: list[tuple[str, dict[str, Any]]] = [
    ("ViT", {}),
    ("ViT", {"size": SQUARE, "resample": 3, "image_mean": [0.1, 0.2, 0.3]}),
    ("ViT", {"size": SQUARE, "do_normalize": False, "rescale_factor": 1 / 127.5}),
    ("ViT", {"do_resize": True, "size": SQUARE, "do_rescale": False, "resample": 1}),
    ("DeiT", {}),
    ("Beit", {}),
    ("ConvNext", {}),
    ("ConvNext", {"size": EDGE}),
    ("ConvNext", {"size": {"shortest_edge": 224}, "crop_pct": 0.95, "resample": 3}),
    ("MobileNetV1", {}),
    ("MobileNetV2", {}),
    ("MobileNetV2", {"size": EDGE, "crop_size": CROP}),
    ("MobileViT", {}),
    ("MobileViT", {"do_flip_channel_order": False}),
    ("EfficientNet", {}),
    ("EfficientNet", {"do_center_crop": True, "resample": 3}),
    ("EfficientNet", {"include_top": False, "rescale_offset": True, "rescale_factor": 1 / 127.5}),
    ("EfficientNet", {"do_normalize": False}),
    ("Pvt", {}),
    ("CLIP", {}),
    ("CLIP", {"size": EDGE, "crop_size": CROP, "resample": 4}),
    ("CLIP", {"do_resize": False}),
    ("CLIP", {"do_center_crop": False, "size": SQUARE, "resample": 5}),
    ("ChineseCLIP", {"size": SQUARE}),
    ("Bit", {}),
    ("Siglip", {}),
    *[("Detr", options) for options in DETR_SIZES],
    *[("Yolos", options) for options in DETR_SIZES],
    ("ConditionalDetr", {}),
    ("DeformableDetr", {}),
    ("MaskFormer", {}),
    ("MaskFormer", {"size": {"shortest_edge": 60, "longest_edge": 100}}),
    ("MaskFormer", {"size": SQUARE, "size_divisor": 0}),
    ("Mask2Former", {"size": SQUARE}),
    ("Mask2Former", {"size_divisor": 0}),
    ("DPT", {}),
    ("RTDetr", {}),
    ("RTDetr", {"do_normalize": True}),
]


def recipe_of(folder: Path) -> Processing:
    table = {}
    for finding in processing_facts(read_export(folder)):
        assert isinstance(finding, Fact), finding
        table[finding.key.removeprefix("parameters.processing.")] = finding.value
    return read_parameters(table, Processing)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("name", "options"), PROCESSORS, ids=lambda one: one if isinstance(one, str) else repr(one)
)
def test_pixels_are_those_of_the_slow_processor_to_the_last_bit(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    processor = getattr(tf, f"{name}ImageProcessor")(**options)
    processor.save_pretrained(tmp_path)
    ours = ImageProcessor(recipe_of(tmp_path))
    for image in IMAGES:
        wanted = processor(image, return_tensors="np")["pixel_values"][0]
        found, _ = ours(image)
        np.testing.assert_array_equal(found, wanted.astype(np.float32))


OLD: list[tuple[dict[str, Any], str, dict[str, Any]]] = [
    ({"feature_extractor_type": "ViTFeatureExtractor", "size": 40}, "ViT", {"size": 40}),
    (
        {"feature_extractor_type": "CLIPFeatureExtractor", "size": 40, "crop_size": 32},
        "CLIP",
        {"size": 40, "crop_size": 32},
    ),
    (
        {"feature_extractor_type": "DetrFeatureExtractor", "size": 50, "max_size": 80},
        "Detr",
        {"size": {"shortest_edge": 50, "longest_edge": 80}},
    ),
    (
        {"image_processor_type": "CLIPImageProcessorFast", "crop_size": None, "size": None},
        "CLIP",
        {},
    ),
    # The fast ones crop whichever they are of, if told; the slow ones of ViT never do.
    (
        {
            "image_processor_type": "ViTImageProcessorFast",
            "size": EDGE,
            "do_center_crop": True,
            "crop_size": {"height": 40, "width": 32},
        },
        "CLIP",
        {
            "size": EDGE,
            "crop_size": {"height": 40, "width": 32},
            "resample": 2,
            "image_mean": [0.5] * 3,
            "image_std": [0.5] * 3,
        },
    ),
    (
        {
            "image_processor_type": "ViTImageProcessor",
            "size": SQUARE,
            "do_center_crop": True,
            "crop_size": {"height": 40, "width": 32},
        },
        "ViT",
        {"size": SQUARE},
    ),
    ({"image_processor_type": "ViTImageProcessorFast", "size": SQUARE}, "ViT", {"size": SQUARE}),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("written", "name", "options"), OLD)
def test_files_of_other_ages_are_read(
    written: dict[str, Any], name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    processor = getattr(tf, f"{name}ImageProcessor")(**options)
    ours = ImageProcessor(recipe_of(tmp_path))
    for image in IMAGES[:4]:
        wanted = processor(image, return_tensors="np")["pixel_values"][0]
        np.testing.assert_array_equal(ours(image)[0], wanted.astype(np.float32))


@pytest.mark.filterwarnings("ignore")
def test_the_one_file_of_a_processor_and_its_parts_is_read(tmp_path: Path) -> None:
    processor = tf.CLIPImageProcessor(size=EDGE, crop_size=CROP)
    within = {"image_processor": processor.to_dict(), "processor_class": "CLIPProcessor"}
    (tmp_path / "processor_config.json").write_text(json.dumps(within))
    wanted = processor(IMAGES[0], return_tensors="np")["pixel_values"][0]
    found, _ = ImageProcessor(recipe_of(tmp_path))(IMAGES[0])
    np.testing.assert_array_equal(found, wanted.astype(np.float32))
    sources = {fact.source for fact in processing_facts(read_export(tmp_path))}
    assert "processor_config.json: image_processor: crop_size" in sources


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "there is no preprocessor_config.json"),
        ({"preprocessor_config.json": {"image_processor_type": "SamImageProcessor"}}, "'Sam'"),
        ({"processor_config.json": {"processor_class": "X"}}, "there is no preprocessor_config"),
        ({"processor_config.json": {"image_processor": 1}}, "there is no preprocessor_config"),
        (
            {"preprocessor_config.json": {"image_processor_type": "ViTImageProcessor", "size": {}}},
            "size",
        ),
        (
            {
                "preprocessor_config.json": {
                    "image_processor_type": "DPTImageProcessor",
                    "keep_aspect_ratio": True,
                }
            },
            "keep_aspect_ratio",
        ),
    ],
)
def test_what_cannot_be_followed_is_said(files: dict[str, Any], said: str, tmp_path: Path) -> None:
    for name, table in files.items():
        (tmp_path / name).write_text(json.dumps(table))
    (finding,) = processing_facts(read_export(tmp_path))
    assert isinstance(finding, Unknown)
    assert said in finding.reason


@pytest.mark.parametrize(("resample", "mode", "levels"), [(2, "bilinear", 2), (3, "bicubic", 4)])
@pytest.mark.parametrize("size", [(224, 224), (40, 56)])
def test_the_fast_processors_resizing_is_this_near(
    resample: int, mode: str, levels: int, size: tuple[int, int]
) -> None:
    """They resize with torchvision, which is this function of PyTorch on 8-bit tensors."""
    name = "bilinear" if resample == 2 else "bicubic"
    ours = ImageProcessor(Processing(size=size, resample=name, rescale=1.0))
    for image in PICTURES:
        pixels = torch.from_numpy(np.array(image).transpose(2, 0, 1))[None]
        fast = torch.nn.functional.interpolate(pixels, size, mode=mode, antialias=True)
        assert np.abs(ours(image)[0] - fast[0].numpy().astype(np.float32)).max() <= levels


def test_a_grey_image_is_seen_in_three_channels() -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    tensor, _ = ImageProcessor(Processing(size=(8, 8)))(grey)
    assert (tensor == tensor[:1]).all()
    assert tensor.shape == (3, 8, 8)
