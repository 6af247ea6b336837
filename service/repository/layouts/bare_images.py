"""What a graph of images without any configuration may be, by its inputs and outputs."""

from collections.abc import Iterator
from typing import Final

from service.repository.layouts.exports import MODEL_ROLE, ExportFiles
from service.repository.layouts.graphs import graph_name, pixel_spec
from service.repository.onnx_file.records import GraphSignature
from service.transforms.vision.head_outputs import shown

_SCORES = 2
"""Axes of the scores of whole images."""
_MAP = 4
"""Axes of a map of an image."""
_MOST_SHOWN = 4

_DECLARED: Final = (
    "it may be a detector, whose head model.toml must declare: "
    'task = "detect", family = "detector", labels, [parameters.processing] and [parameters.head]; '
    "docs/detector-heads.md has them for YuNet, NanoDet, SCRFD, YOLO and others. What segments "
    "images, or finds poses or depth in them, is not served"
)
_CLASSIFIED: Final = (
    "it may be a classifier, of which model.toml must say what the graph does not: "
    'task = "classify", family = "image_classifier", labels and [parameters.processing]'
)


def image_kinds(files: ExportFiles) -> Iterator[tuple[str, str]]:
    """Yield the hub's name of what a graph of images gives, and by what it is known."""
    signature = files.signature()
    if pixel_spec(signature) is None:
        return
    for output, spec in signature.outputs.items():
        source = f"{graph_name(files)} gives {output} {shown(spec.shape)}: it"
        if output == "predicted_depth":
            yield "depth-estimation", source
        elif output == "heatmaps":
            yield "keypoint-detection", source
        elif output in ("logits", "masks", "pred_masks") and len(spec.shape) >= _MAP:
            yield "image-segmentation", source


def said_of_images(files: ExportFiles) -> str | None:
    """Return what a graph of images may be, and what must be said of it; None for another."""
    if not files.graphs.get(MODEL_ROLE):
        return None
    signature = files.signature()
    if pixel_spec(signature) is None or not signature.outputs:
        return None
    outputs = list(signature.outputs.values())
    is_score = len(outputs) == 1 and len(outputs[0].shape) == _SCORES
    advice = _CLASSIFIED if is_score else _DECLARED
    return f"{graph_name(files)} takes images and gives {_listed(signature)}: {advice}"


def _listed(signature: GraphSignature) -> str:
    named = [f"{name} {shown(spec.shape)}" for name, spec in signature.outputs.items()]
    more = len(named) - _MOST_SHOWN
    rest = [f"{more} more"] if more > 0 else []
    return ", ".join([*named[:_MOST_SHOWN], *rest])
