"""Embedders of images, and of texts and images in one space."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from service.errors import ModelLoadError
from service.repository.layouts.config_json import timm_embeds
from service.repository.layouts.exports import (
    CONFIG,
    MODEL_ROLE,
    TOKENIZER_CONFIG,
    ExportFiles,
)
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
from service.repository.layouts.tokens import padding_token, tokenizer_facts
from service.repository.manifest import PRECISIONS
from service.repository.onnx_file.scalars import scale_and_bias
from service.repository.paths import file_inside
from service.tasks import Task

_TEXT, _VISION = "text_model", "vision_model"
_LOGITS = "logits_per_image"
"""Output of a graph of both towers: scaled cosines."""
_TEMPLATE = "This is a photo of {}."
"""What transformers' pipeline puts around a label."""

_UNSET_LENGTH = 1_000_000  # transformers writes 1e30 for a tokenizer without a length


@dataclass(frozen=True, slots=True)
class _Towers:
    """What the configuration of a kind of dual encoder leaves out where it is the default."""

    max_length: int
    pad_id: int
    pads_to_max_length: bool = False
    outputs: tuple[str, str] = ("text_embeds", "image_embeds")
    """Of a text tower and a vision tower in a graph of their own."""
    activation: str = "softmax"
    """What makes scores of an image's labels."""


_DUAL: Final[Mapping[str, _Towers]] = {
    "clip": _Towers(77, 1),
    "metaclip_2": _Towers(77, 1),
    "chinese_clip": _Towers(512, 0),
    # Trained on texts padded to the end, without a mask; its pooled state is its embedding.
    "siglip": _Towers(
        64,
        1,
        pads_to_max_length=True,
        outputs=("pooler_output", "pooler_output"),
        activation="sigmoid",
    ),
}

_VECTORS: Final = dict.fromkeys(("image_embeds", "pooler_output", "last_hidden_state"))
"""Outputs that stand for an image, the nearest to a vector first."""

_TOKEN_MODELS = ("swin", "swinv2")
"""Models without a token for the class, so that the mean of all stands for an image."""


def _is_dual(files: ExportFiles) -> str | None:
    joint = MODEL_ROLE in files.graphs or {_TEXT, _VISION} <= files.graphs.keys()
    return f"{CONFIG}: model_type" if files.model_type in _DUAL and joint else None


def _read_dual(files: ExportFiles) -> Iterator[Finding]:
    towers = _DUAL.get(files.model_type, _Towers(77, 1))
    if {_TEXT, _VISION} <= files.graphs.keys():
        yield from graph_facts(files, {"text": _TEXT, "image": _VISION})
        yield from _outputs(files, towers)
    else:
        yield from graph_facts(files, {"model": MODEL_ROLE})
        yield Fact("parameters.one_graph", True, f"{graph_name(files)}: there are no others")
    yield from _text_facts(files, towers)
    yield from processing_facts(files)
    yield from _label_facts(files, towers)


def _label_facts(files: ExportFiles, towers: _Towers) -> Iterator[Finding]:
    """Tell how labels that a request gives are scored, as transformers' pipeline does it."""
    source = f"{CONFIG}: model_type"
    yield Fact("parameters.hypothesis_template", _TEMPLATE, source)
    if towers.activation != "softmax":
        yield Fact("parameters.activation", towers.activation, source)
    graphs = files.graphs.get(MODEL_ROLE, {})
    name = next((graphs[precision] for precision in PRECISIONS if precision in graphs), None)
    if name is None:
        return  # the towers alone do not have it
    path = file_inside(name, files.folder, files.root, "graphs")
    if (found := scale_and_bias(path, _LOGITS)) is not None:
        scale, bias = found
        yield Fact("parameters.logit_scale", scale, f"{name}: {_LOGITS}")
        yield Fact("parameters.logit_bias", bias, f"{name}: {_LOGITS}")


def _outputs(files: ExportFiles, towers: _Towers) -> Iterator[Finding]:
    """Tell the outputs that are in the common space.

    Raises:
        ModelLoadError: a tower ends before its projection, so that its vectors match nothing.
    """
    for key, role, usual, own in (
        ("text_output", _TEXT, "text_embeds", towers.outputs[0]),
        ("image_output", _VISION, "image_embeds", towers.outputs[1]),
    ):
        given = files.signature(role).outputs
        name = next((name for name in (usual, own) if name in given), None)
        if name is None:
            raise ModelLoadError(
                f"{graph_name(files, role)} gives {', '.join(given)}, but no {own}: export the "
                "model with its projection"
            )
        if name != usual:
            yield Fact(f"parameters.{key}", name, f"{graph_name(files, role)}: its outputs")


def _text_facts(files: ExportFiles, towers: _Towers) -> Iterator[Finding]:
    text = files.config.get("text_config")
    text = text if isinstance(text, Mapping) else {}
    longest = text.get("max_position_embeddings", towers.max_length)
    limit, source = longest, f"{CONFIG}: text_config.max_position_embeddings"
    declared = files.tokenizer.get("model_max_length")
    if isinstance(declared, int) and declared < min(longest, _UNSET_LENGTH):
        limit, source = declared, f"{TOKENIZER_CONFIG}: model_max_length"
    yield Fact("parameters.max_length", int(limit), source)
    yield from tokenizer_facts(files)
    found = padding_token(files)
    if found is not None:
        yield found
    elif isinstance(text.get("pad_token_id", towers.pad_id), int):
        pad_id = text.get("pad_token_id", towers.pad_id)
        yield Fact("parameters.pad_id", pad_id, f"{CONFIG}: text_config.pad_token_id")
    else:
        yield Unknown("parameters.pad_id", f"neither {TOKENIZER_CONFIG} nor {CONFIG} tells it")
    if towers.pads_to_max_length:
        yield Fact("parameters.pads_to_max_length", True, f"{CONFIG}: model_type")


def _is_image_embedder(files: ExportFiles) -> str | None:
    if timm_embeds(files):
        return f"{CONFIG}: pretrained_cfg"
    named = files.architecture.endswith(("Model", "ModelWithProjection"))
    if not (named or (files.model_type and not files.architecture)):
        return None
    if MODEL_ROLE not in files.graphs:
        return None
    signature = files.signature()
    sees = pixel_spec(signature) is not None and "input_ids" not in signature.inputs
    if not sees or not signature.outputs.keys() & _VECTORS:
        return None
    return f"{CONFIG}, and the inputs and outputs of {graph_name(files)}"


def _read_image_embedder(files: ExportFiles) -> Iterator[Finding]:
    yield from graph_facts(files, {"model": MODEL_ROLE})
    yield from processing_facts(files)
    if not files.graphs.get(MODEL_ROLE):
        return
    outputs = files.signature().outputs
    source = f"{graph_name(files)}: its outputs"
    name = next((name for name in _VECTORS if name in outputs), None)
    if name is None and len(outputs) == 1 and timm_embeds(files):
        (name,) = outputs  # which exporters call as they like
    if name is None:
        yield Unknown("parameters.output", f"{graph_name(files)} gives {', '.join(outputs)}")
        return
    yield Fact("parameters.output", name, source)
    if name == "last_hidden_state":
        yield from _pooling(files, len(outputs[name].shape))


def _pooling(files: ExportFiles, axes: int) -> Iterator[Finding]:
    is_map, has_class = axes > 3, files.model_type not in _TOKEN_MODELS  # noqa: PLR2004
    source = f"{CONFIG}: model_type"
    if is_map or not has_class:
        yield Fact("parameters.pooling", "mean", source)
        yield Fact("parameters.prefix_tokens", 0, source)
    else:
        yield Fact("parameters.pooling", "cls", source)


LAYOUTS: Final = (
    Layout(Task.EMBED, "dual_encoder", _is_dual, _read_dual),
    Layout(Task.EMBED, "image_embedder", _is_image_embedder, _read_image_embedder),
)
