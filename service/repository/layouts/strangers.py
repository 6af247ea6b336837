"""What a directory is that no layout serves, as far as its files show, and what can be done."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from service.errors import ModelLoadError
from service.repository.layouts.exports import CONFIG, MODEL_ROLE, ExportFiles
from service.repository.layouts.facts import graph_name, pixel_spec
from service.repository.onnx_file.analysis import foreign_operators
from service.repository.onnx_file.reader import read_onnx
from service.repository.onnx_file.records import GraphSignature
from service.repository.paths import file_inside
from service.transforms.vision.head_outputs import shown

_SCORES = 2
"""Axes of the scores of whole images."""
_MAP = 4
"""Axes of a map of an image."""
_MOST_SHOWN = 4

_DECLARED: Final = (
    "it may be a detector, whose head model.toml must declare: "
    'task = "detect", family = "detector", labels, [parameters.processing] and [parameters.head]; '
    "docs/detector-heads.md has them for YuNet, NanoDet, SCRFD, YOLO and others. One that "
    'labels each pixel has family = "segmenter", labels and [parameters.processing]; one of '
    'torchvision, which gives boxes, labels and scores, has family = "torchvision_detector"'
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


_ENCODE = (
    "export the model without its head (Optimum: --task feature-extraction) to embed texts with it"
)
_NOTHING = "none of the tasks (classify, tag, translate, generate, detect, embed) is of this kind"

_KINDS: Final[Mapping[str, tuple[str, str]]] = {
    "token-classification": (
        "labels the tokens of a text, such as names in it",
        "of these, those of transformers are served: add a config.json with architectures and "
        "id2label, and the tokenizer",
    ),
    "question-answering": ("finds the answer to a question in a text", _ENCODE),
    "fill-mask": (
        "fills in masked words",
        f'{_ENCODE}; of a SPLADE model, add family = "sparse_embedder" to model.toml',
    ),
    "multiple-choice": ("chooses among several endings of a text", _ENCODE),
    "text-generation": ("continues a text (a causal language model)", _ENCODE),
    "text2text-generation": (
        "writes a text from a text",
        "of these, translators are served: Marian, T5, M2M-100, NLLB and mBART-50, with "
        "encoder_model.onnx and decoder_model_merged.onnx",
    ),
    "image-segmentation": (
        "segments an image",
        'of these, those with a score or a label for each pixel (family = "segmenter" in '
        "model.toml) and DETR, MaskFormer and Mask2Former (set_segmenter) are served",
    ),
    "keypoint-detection": ("finds points of a body or an image", _NOTHING),
    "image-to-image": ("makes an image of an image", _NOTHING),
    "video-classification": ("classifies videos", _NOTHING),
    "zero-shot-object-detection": (
        "finds what a text names in an image",
        "detectors of a fixed list of labels are served",
    ),
    "depth-estimation": ("estimates the depth of an image", _NOTHING),
    "image-to-text": ("writes a text from an image", _NOTHING),
    "visual-question-answering": ("answers questions about an image", _NOTHING),
    "automatic-speech-recognition": ("reads speech", _NOTHING),
    "audio-classification": ("classifies sound", _NOTHING),
}
"""By the hub's name of the task: what such a model does, and what can be done with it here."""

_HEADS: Final[Mapping[str, str]] = {
    "ForTokenClassification": "token-classification",
    "ForQuestionAnswering": "question-answering",
    "ForMaskedLM": "fill-mask",
    "ForPreTraining": "fill-mask",
    "ForMultipleChoice": "multiple-choice",
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "ForSemanticSegmentation": "image-segmentation",
    "ForInstanceSegmentation": "image-segmentation",
    "ForUniversalSegmentation": "image-segmentation",
    "ForImageSegmentation": "image-segmentation",
    "ForDepthEstimation": "depth-estimation",
    "ForPoseEstimation": "keypoint-detection",
    "ForKeypointDetection": "keypoint-detection",
    "ForKeypointMatching": "keypoint-detection",
    "ForImageSuperResolution": "image-to-image",
    "ForMaskedImageModeling": "image-to-image",
    "ForVideoClassification": "video-classification",
    "ForVision2Seq": "image-to-text",
    "ForImageTextToText": "image-to-text",
    "ForVisualQuestionAnswering": "visual-question-answering",
    "ForDocumentQuestionAnswering": "visual-question-answering",
    "ForCTC": "automatic-speech-recognition",
    "ForSpeechSeq2Seq": "automatic-speech-recognition",
    "ForAudioClassification": "audio-classification",
}
"""By the end of transformers' architecture."""

_SPEECH: Final = ("moonshine", "seamless_m4t", "speech_to_text", "speecht5", "whisper")

ZERO_SHOT: Final = frozenset(
    {"grounding-dino", "mm-grounding-dino", "omdet-turbo", "owlv2", "owlvit"}
)
"""Detectors that a text tells what to find, whose architecture is called as the others' are."""

_TAG = re.compile(r"^pipeline_tag:\s*[\"']?([\w-]+)", re.MULTILINE)
_FRONT_BYTES = 16 * 1024
_OF_TOKENS = 3
"""Axes of scores that every token has."""


def said_of(files: ExportFiles) -> str:
    """Return what the files are and what can be done, for a refusal."""
    if not files.graphs:
        return "there is no .onnx graph, at the top or under onnx/"
    for kind, source in _kinds(files):
        if kind in _KINDS:
            does, advice = _KINDS[kind]
            return f"{source} says that this model {does}, which is not served: {advice}"
    return _foreign(files) or _untold(files)


def _untold(files: ExportFiles) -> str:
    """Return why the task of graphs is unknown."""
    if files.architecture:
        return f"the task of {files.architecture} ({CONFIG}: architectures) is unknown"
    if images := said_of_images(files):
        return images
    if CONFIG in files.tables:
        return f"{CONFIG} names no architectures, so the task is unknown"
    return f"there is no {CONFIG}, and the graph's metadata does not name the task"


def is_known_stranger(files: ExportFiles) -> bool:
    """Tell whether the files say what the model does, and it is nothing that is served."""
    return bool(files.graphs) and any(kind in _KINDS for kind, _ in _kinds(files))


def _kinds(files: ExportFiles) -> Iterator[tuple[str, str]]:
    """Yield the hub's names of what the model does, and by what it is known; the surest first."""
    yield from _by_architecture(files)
    if tag := _pipeline_tag(files):
        yield tag, f"README.md: pipeline_tag ({tag})"
    if not files.architecture and files.graphs.get(MODEL_ROLE):
        yield from _by_outputs(files)
        yield from image_kinds(files)


def _by_architecture(files: ExportFiles) -> Iterator[tuple[str, str]]:
    if files.model_type in ZERO_SHOT:
        yield "zero-shot-object-detection", f"{CONFIG}: model_type ({files.model_type})"
    if files.architecture.endswith("ForConditionalGeneration"):
        if files.model_type in _SPEECH:
            yield "automatic-speech-recognition", f"{CONFIG}: model_type ({files.model_type})"
        elif "vision_config" in files.config:
            yield "image-to-text", f"{CONFIG}: vision_config"
    for ending, kind in _HEADS.items():
        if files.architecture.endswith(ending):
            yield kind, f"{CONFIG}: architectures ({files.architecture})"


def _by_outputs(files: ExportFiles) -> Iterator[tuple[str, str]]:
    outputs, name = files.signature().outputs, graph_name(files)
    source = f"{name} gives {', '.join([*outputs][:3])}: it"
    if {"start_logits", "end_logits"} <= outputs.keys():
        yield "question-answering", source
    elif "logits" in outputs and len(outputs["logits"].shape) == _OF_TOKENS:
        has_cache = any(output.startswith("present") for output in outputs)
        yield "text-generation" if has_cache else "token-classification", source


def _pipeline_tag(files: ExportFiles) -> str | None:
    """Return the task that the model's card names; None if there is no card or it names none."""
    if "README.md" not in files.names:
        return None
    try:
        path = file_inside("README.md", files.folder, files.root, files.folder.name)
        with path.open("rb") as card:
            found = _TAG.search(card.read(_FRONT_BYTES).decode(errors="replace"))
    except (OSError, ModelLoadError):
        return None
    return found[1] if found else None


def _foreign(files: ExportFiles) -> str | None:
    """Return what to do about operators that onnxruntime does not have; None if there are none."""
    for by_precision in files.graphs.values():
        for name in by_precision.values():
            path = file_inside(name, files.folder, files.root, "graphs")
            if found := sorted(foreign_operators(read_onnx(path))):
                return (
                    f"{name} uses {', '.join(found[:3])}, custom operators that onnxruntime does "
                    "not have: export it without them"
                )
    return None


_GRAPHS_DECIDE: Final = frozenset({"fill-mask", "text2text-generation"})
"""Kinds of which some exports are served all the same."""


def refused_by_tables(files: ExportFiles) -> str | None:
    """Return why no graph of a model can be served, known before there is any; None if unknown."""
    if files.modules:
        return None
    for kind, source in _by_architecture(files):
        if kind in _KINDS and kind not in _GRAPHS_DECIDE:
            does, advice = _KINDS[kind]
            return f"{source} says that this model {does}, which is not served: {advice}"
    return None
