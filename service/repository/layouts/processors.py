"""`preprocessor_config.json` as a recipe: what each image processor of transformers does by it.

A key that the file leaves out, or gives as null, has the processor's own default, so the
defaults are here, by the processor's name.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.repository.layouts.config_json import is_timm, timm_processing
from service.repository.layouts.exports import CONFIG, PREPROCESSOR, ExportFiles
from service.repository.layouts.facts import Fact, Finding, Unknown
from service.transforms.vision.processing import RESAMPLES

KEY: Final = "parameters.processing"

_HALF = (0.5, 0.5, 0.5)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
_STANDARD = (_HALF, _HALF)
_NEAREST, _BILINEAR, _BICUBIC = 0, 2, 3

_WARPED_FROM = 384
"""ConvNeXT's processor crops below this edge and stretches from it on."""
_LONGEST = 1333


@dataclass(frozen=True, slots=True)
class Processor:
    """The defaults of one image processor, and the ways in which it is unlike the others."""

    size: Mapping[str, int]
    resample: int = _BILINEAR
    crop: int | None = None
    """Edge of the centre it cuts out; None if it has no crop."""
    crops: bool = True
    """Whether it does so by default."""
    colours: tuple[Sequence[float], Sequence[float]] = _STANDARD
    """Mean and standard deviation."""
    normalises: bool = True
    crop_share: float | None = None
    """ConvNeXT's `crop_pct`."""
    multiple_of: int = 1
    size_divisor: int | None = None
    """What edges are stretched to a multiple of; None if the processor does not do so."""
    limits_longest: bool = False
    """A `size` of one number means at most 1333 for the longer edge."""
    is_efficientnet: bool = False
    flips: bool = False
    """Channels are blue, green, red by default."""


_DETR = Processor(
    {"shortest_edge": 800, "longest_edge": _LONGEST}, colours=_IMAGENET, limits_longest=True
)
_CLIP = Processor({"shortest_edge": 224}, _BICUBIC, crop=224, colours=_OPENAI)
_CONVNEXT = Processor({"shortest_edge": _WARPED_FROM}, crop_share=224 / 256)
_MOBILENET = Processor({"shortest_edge": 256}, crop=224)
_MASKFORMER = Processor(_DETR.size, colours=_IMAGENET, size_divisor=32, limits_longest=True)
_VIT = Processor({"height": 224, "width": 224})

_PROCESSORS: Final[Mapping[str, Processor]] = {
    "ViT": _VIT,
    "DeiT": Processor({"height": 256, "width": 256}, _BICUBIC, crop=224),
    "Beit": Processor({"height": 256, "width": 256}, _BICUBIC, crop=224),
    "ConvNext": _CONVNEXT,
    "MobileNetV1": _MOBILENET,
    "MobileNetV2": _MOBILENET,
    "MobileViT": Processor({"shortest_edge": 224}, crop=256, normalises=False, flips=True),
    "EfficientNet": Processor(
        {"height": 346, "width": 346}, _NEAREST, crop=289, crops=False, is_efficientnet=True
    ),
    "Pvt": Processor({"height": 224, "width": 224}, colours=_IMAGENET),
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "Bit": _CLIP,
    "Siglip": Processor({"height": 224, "width": 224}, _BICUBIC),
    "Detr": _DETR,
    "ConditionalDetr": _DETR,
    "DeformableDetr": _DETR,
    "Yolos": Processor(_DETR.size, colours=_IMAGENET, multiple_of=16, limits_longest=True),
    "MaskFormer": _MASKFORMER,
    "Mask2Former": _MASKFORMER,
    "DPT": Processor({"height": 384, "width": 384}, _BICUBIC),
    "Segformer": Processor({"height": 512, "width": 512}, colours=_IMAGENET),
    "RTDetr": Processor({"height": 640, "width": 640}, colours=_IMAGENET, normalises=False),
}

_OF_MODELS: Final[Mapping[str, str]] = {
    # Which processor goes with a model whose file does not name one, as transformers has it.
    "vit": "ViT",
    "swin": "ViT",
    "swinv2": "ViT",
    "deit": "DeiT",
    "beit": "Beit",
    "resnet": "ConvNext",
    "regnet": "ConvNext",
    "van": "ConvNext",
    "convnext": "ConvNext",
    "convnextv2": "ConvNext",
    "mobilenet_v1": "MobileNetV1",
    "mobilenet_v2": "MobileNetV2",
    "mobilevit": "MobileViT",
    "efficientnet": "EfficientNet",
    "pvt": "Pvt",
    "bit": "Bit",
    "dinov2": "Bit",
    "focalnet": "Bit",
    "clip": "CLIP",
    "clip_vision_model": "CLIP",
    "chinese_clip": "ChineseCLIP",
    "siglip": "Siglip",
    "siglip_vision_model": "Siglip",
    "detr": "Detr",
    "table-transformer": "Detr",
    "conditional_detr": "ConditionalDetr",
    "deformable_detr": "DeformableDetr",
    "yolos": "Yolos",
    "segformer": "Segformer",
    "maskformer": "MaskFormer",
    "mask2former": "Mask2Former",
    "dpt": "DPT",
    "rt_detr": "RTDetr",
    "rt_detr_v2": "RTDetr",
    "d_fine": "RTDetr",
}


def processing_facts(files: ExportFiles) -> Iterator[Finding]:
    """Tell the recipe that the directory's image processor follows."""
    table = {key: value for key, value in files.preprocessor.items() if value is not None}
    file = files.preprocessor_source
    name, source = _named(table, files.model_type, file)
    processor = _PROCESSORS.get(name)
    if is_timm(files) and (processor is None or file is None):
        yield from timm_processing(files, KEY)
        return
    if file is None:
        yield Unknown(KEY, f"there is no {PREPROCESSOR}")
        return
    if processor is None:
        problem = (
            f"{source} names {name!r}, which is not known here" if name else f"{source} is empty"
        )
        yield Unknown(KEY, problem)
        return
    try:
        steps = [*_sizes(table, processor), *_values(table, processor)]
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        yield Unknown(KEY, f"{file} cannot be followed: {error}")
        return
    for key, value, said_by in steps:
        named = f"{file}: {said_by}" if said_by in table else f"{source}, its default"
        yield Fact(f"{KEY}.{key}", value, named)


def _named(table: Mapping[str, Any], model_type: str, file: str | None) -> tuple[str, str]:
    """Return the processor's short name, and who says so."""
    for key, ending in (
        ("image_processor_type", "ImageProcessor"),
        ("feature_extractor_type", "FeatureExtractor"),
    ):
        if isinstance(named := table.get(key), str):
            return named.removesuffix("Fast").removesuffix(ending), f"{file}: {key}"
    return _OF_MODELS.get(model_type, model_type), f"{CONFIG}: model_type"


def _sizes(table: Mapping[str, Any], processor: Processor) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and the key of the file that decides on it."""
    crop = _crop(table, processor)
    if table.get("do_resize", True):
        if table.get("keep_aspect_ratio"):
            raise ValueError("keep_aspect_ratio is not known here")
        size = _multiples(_size(table, processor), table, processor)
        if processor.crop_share is not None:
            edge = int(size.get("shortest_edge") or size["height"])
            if edge >= _WARPED_FROM:
                size = {"height": edge, "width": edge}
            else:
                share = float(table.get("crop_pct", processor.crop_share))
                size, crop = {"shortest_edge": int(edge / share)}, (edge, edge)
        yield from _resizing(size, processor)
        if processor.size_divisor is not None:
            yield "multiple_of", _divisor(table, processor), "size_divisor"
            yield "multiple_rounds", "up", "size_divisor"
        yield "resample", _resample(int(table.get("resample", processor.resample))), "resample"
    else:
        yield "resize", "none", "do_resize"
    if crop is not None:
        yield "crop", list(crop), "crop_size" if "crop_size" in table else "size"
    if isinstance(pad := table.get("pad_size"), Mapping) and table.get("do_pad", True):
        yield "pad", [int(pad["height"]), int(pad["width"])], "pad_size"


def _resample(number: int) -> str:
    if not 0 <= number < len(RESAMPLES):
        raise ValueError(f"resample is {number}, which is no filter of Pillow's")
    return RESAMPLES[number]


def _size(table: Mapping[str, Any], processor: Processor) -> Mapping[str, int]:
    size = table.get("size", processor.size)
    if isinstance(size, Mapping):
        return {key: int(value) for key, value in size.items() if value is not None}
    if isinstance(size, list):
        return {"height": int(size[0]), "width": int(size[-1])}
    if "height" in processor.size and not processor.limits_longest:
        return {"height": int(size), "width": int(size)}
    if processor.limits_longest:
        longest = int(table.get("max_size", _LONGEST))
        return {"shortest_edge": int(size), "longest_edge": longest}
    return {"shortest_edge": int(size)}


def _divisor(table: Mapping[str, Any], processor: Processor) -> int:
    return max(1, int(table.get("size_divisor", processor.size_divisor or 1)))


def _multiples(
    size: Mapping[str, int], table: Mapping[str, Any], processor: Processor
) -> Mapping[str, int]:
    """Return the size with the height and the width that the processor makes of it."""
    if "height" not in size or processor.size_divisor is None:
        return size
    divisor = _divisor(table, processor)
    return {key: -(-length // divisor) * divisor for key, length in size.items()}


def _resizing(size: Mapping[str, int], processor: Processor) -> Iterator[tuple[str, Any, str]]:
    if "height" in size and "width" in size:
        yield "resize", "stretch", "size"
        yield "size", [size["height"], size["width"]], "size"
    elif "max_height" in size and "max_width" in size:
        yield "resize", "inside", "size"
        yield "size", [size["max_height"], size["max_width"]], "size"
    elif "shortest_edge" in size:
        yield "resize", "shortest_edge", "size"
        yield "shortest_edge", size["shortest_edge"], "size"
        if "longest_edge" in size:
            yield "longest_edge", size["longest_edge"], "size"
        if processor.multiple_of > 1:
            yield "multiple_of", processor.multiple_of, "image_processor_type"
    else:
        raise ValueError(f"size has {', '.join(size) or 'nothing'}")


def _crop(table: Mapping[str, Any], processor: Processor) -> tuple[int, int] | None:
    crop, crops = processor.crop, processor.crops
    if crop is None and str(table.get("image_processor_type")).endswith("Fast"):
        crop, crops = table.get("crop_size"), False  # the fast ones crop, whichever they are
    if crop is None or not table.get("do_center_crop", crops):
        return None
    crop = table.get("crop_size", crop)
    if isinstance(crop, Mapping):
        return int(crop["height"]), int(crop["width"])
    if isinstance(crop, list):
        return int(crop[0]), int(crop[-1])
    return int(crop), int(crop)


def _values(table: Mapping[str, Any], processor: Processor) -> Iterator[tuple[str, Any, str]]:
    if processor.flips and table.get("do_flip_channel_order", True):
        yield "mode", "BGR", "do_flip_channel_order"
    if table.get("do_rescale", True):
        yield "rescale", float(table.get("rescale_factor", 1 / 255)), "rescale_factor"
        if processor.is_efficientnet and table.get("rescale_offset", False):
            yield "offset", -1.0, "rescale_offset"
    else:
        yield "rescale", 1.0, "do_rescale"
    mean, std = (
        _channels(table.get(key, default))
        for key, default in zip(("image_mean", "image_std"), processor.colours, strict=True)
    )
    normalises = table.get("do_normalize", processor.normalises)
    again = processor.is_efficientnet and table.get("include_top", True)
    if normalises:
        yield "mean", mean, "image_mean"
    if normalises or again:
        yield "std", std, "image_std"
    if normalises and again:
        yield "std_again", True, "include_top"


def _channels(value: Any) -> list[float]:
    return [float(part) for part in value] if isinstance(value, Sequence) else [float(value)] * 3
