"""Image classifiers and detectors, as transformers names them."""

from collections.abc import Iterator, Mapping, Set
from typing import Final

from service.repository.layouts.config_json import label_facts, only_label, timm_names_classes
from service.repository.layouts.exports import CONFIG, MODEL_ROLE, ExportFiles
from service.repository.layouts.facts import (
    Fact,
    Finding,
    Layout,
    Unknown,
    graph_facts,
    graph_name,
    pixel_spec,
)
from service.repository.layouts.processors import processing_facts
from service.repository.layouts.strangers import ZERO_SHOT
from service.tasks import Task

_ARCHITECTURES = f"{CONFIG}: architectures"
_SINGLE = {"model": "model"}

_AXES = (0, 2)
"""Of a classifier's scores; none where the graph does not say."""
_MASK2FORMER = "Mask2FormerForUniversalSegmentation"
_SET_SEGMENTERS = frozenset(
    {"DetrForSegmentation", "MaskFormerForInstanceSegmentation", _MASK2FORMER}
)
_MASK2FORMER_SIZE = (384, 384)
"""What its post-processing resizes masks to, whatever the image."""
_MAP_AXES = 4
"""Of scores for each pixel."""
_HEADS = frozenset({"logits", "pred_boxes", "pred_masks"})
_FINISHED = frozenset({"boxes", "labels", "scores"})
"""What a graph of torchvision's gives that suppresses boxes itself."""
_MULTI_LABEL = "multi_label_classification"

_SET_SCORES: Final[Mapping[str, tuple[str, int | None]]] = {
    # How a model's post-processor scores its queries, and how many of them it keeps.
    "detr": ("softmax", None),
    "table-transformer": ("softmax", None),
    "yolos": ("softmax", None),
    "conditional_detr": ("sigmoid", 100),
    "deformable_detr": ("sigmoid", 100),
    "rt_detr": ("sigmoid", None),
    "rt_detr_v2": ("sigmoid", None),
    "d_fine": ("sigmoid", None),
}


def _is_classifier(files: ExportFiles) -> str | None:
    if "ForImageClassification" in files.architecture:
        return _ARCHITECTURES
    if timm_names_classes(files):
        return f"{CONFIG}: pretrained_cfg"
    known_by = _by_outputs(files, {"logits"})
    # Scores of more axes are of parts of an image, or of its pixels.
    is_whole = known_by and len(files.signature().outputs["logits"].shape) in _AXES
    return known_by if is_whole else None


def _read_classifier(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, _SINGLE)
    yield from label_facts(files)
    yield from processing_facts(files)
    alone = only_label(files)
    if files.config.get("problem_type") == _MULTI_LABEL or alone:
        yield Fact("parameters.activation", "sigmoid", alone or f"{CONFIG}: problem_type")


def _is_segmenter(files: ExportFiles) -> str | None:
    if files.architecture.endswith("ForSemanticSegmentation"):
        return _ARCHITECTURES
    known_by = _by_outputs(files, {"logits"})
    is_map = known_by and len(files.signature().outputs["logits"].shape) == _MAP_AXES
    return known_by if is_map else None


def _read_segmenter(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, _SINGLE)
    yield from label_facts(files)
    yield from processing_facts(files)


def _is_set_segmenter(files: ExportFiles) -> str | None:
    if files.architecture in _SET_SEGMENTERS:
        return _ARCHITECTURES
    return _by_outputs(files, {"logits", "pred_masks"})


def _read_set_segmenter(files: ExportFiles) -> Iterator[Finding]:
    yield from _read_segmenter(files)
    if files.architecture == _MASK2FORMER:
        yield Fact("parameters.mask_size", [*_MASK2FORMER_SIZE], _ARCHITECTURES)


def _is_set_detector(files: ExportFiles) -> str | None:
    if files.model_type in ZERO_SHOT:
        return None
    if files.architecture.endswith("ForObjectDetection"):
        return _ARCHITECTURES
    return _by_outputs(files, {"logits", "pred_boxes"})


def _read_set_detector(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, _SINGLE)
    yield from label_facts(files)
    yield from processing_facts(files)
    scores, top_k = _SET_SCORES.get(files.model_type, (None, None))
    source = f"{CONFIG}: model_type"
    if scores is None:
        yield Unknown(
            "parameters.scores", f"how {files.model_type!r} scores its queries is not known here"
        )
    else:
        yield Fact("parameters.scores", scores, source)
    if top_k is not None:
        yield Fact("parameters.top_k", top_k, source)


def _is_torchvision(files: ExportFiles) -> str | None:
    if CONFIG in files.tables or not files.graphs.get(MODEL_ROLE):
        return None
    given = files.signature().outputs.keys()
    return f"{graph_name(files)}: its outputs" if given >= _FINISHED else None


def _read_torchvision(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, _SINGLE)
    yield Unknown("parameters.labels", f"{graph_name(files)} does not name its labels")
    yield Fact("parameters.processing.resize", "none", "family")
    if files.graphs.get(MODEL_ROLE) and "masks" in files.signature().outputs:
        yield Fact("parameters.masks", True, f"{graph_name(files)}: its outputs")


def _by_outputs(files: ExportFiles, wanted: Set[str]) -> str | None:
    """Know a model of images whose configuration names no architecture by what it gives."""
    if files.architecture or not files.model_type or MODEL_ROLE not in files.graphs:
        return None
    signature = files.signature()
    sees = pixel_spec(signature) is not None and "input_ids" not in signature.inputs
    if not sees or (signature.outputs.keys() & _HEADS) != wanted:
        return None
    return f"{graph_name(files)}: its inputs and outputs"


LAYOUTS: Final = (
    Layout(Task.CLASSIFY, "image_classifier", _is_classifier, _read_classifier),
    Layout(Task.DETECT, "segmenter", _is_segmenter, _read_segmenter),
    Layout(Task.DETECT, "set_segmenter", _is_set_segmenter, _read_set_segmenter),
    Layout(Task.DETECT, "detr_detector", _is_set_detector, _read_set_detector),
    Layout(Task.DETECT, "torchvision_detector", _is_torchvision, _read_torchvision),
)
