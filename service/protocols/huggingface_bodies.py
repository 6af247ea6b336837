"""Bodies of the Inference API as items of the model's task."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field

from service.api.content import as_image, as_text, check_count, each, validated
from service.errors import InvalidInputError, LimitExceededError, ServiceError
from service.protocols.bodies import Body
from service.protocols.protocol import ProtocolBody
from service.requests.admission import ApiLimits
from service.requests.pipeline import Pipeline
from service.requests.zero_shot import GivenLabels
from service.tasks import (
    Aggregate,
    AnyItem,
    ClassifyItem,
    DetectItem,
    EmbedItem,
    GenerateItem,
    Image,
    MaskForm,
    TagItem,
    Task,
    Text,
    TranslateItem,
)

Activation: TypeAlias = Literal["sigmoid", "softmax", "none"]

_IMAGE = re.compile(r"data:image/|iVBORw0KGgo|/9j/|R0lGOD|UklGR|Qk[0-3]|SUkqA|TU0AK")
"""How image files begin in base64, or as a data URI."""
_LEAST_IMAGE = 60
"""Characters of a text that may be an image file."""
_MOST_TOP_K = 10_000


class HuggingFaceParameters(BaseModel):
    """Options of a task. Those of another task, and what only tunes speed, are ignored."""

    model_config = ConfigDict(extra="ignore")

    top_k: int | None = Field(None, ge=1, le=_MOST_TOP_K)
    function_to_apply: Activation | None = None
    threshold: float | None = Field(None, ge=0, le=1)
    src_lang: str | None = Field(None, min_length=2, max_length=35)
    tgt_lang: str | None = Field(None, min_length=2, max_length=35)
    truncation: str | None = None
    generate_parameters: dict[str, Any] | None = None
    candidate_labels: list[str] | None = None
    multi_label: bool | None = None
    hypothesis_template: str | None = None
    aggregation_strategy: Aggregate | None = None
    stride: int | None = Field(None, ge=0, le=65_536)
    ignore_labels: list[str] | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None
    dimensions: int | None = Field(None, ge=1, le=65_536)


class HuggingFaceBody(ProtocolBody):
    """Inputs of a task, and its options."""

    inputs: Any = Field(
        None,
        description="A text or a list of texts; an image in base64; for sentence similarity an "
        "object of source_sentence and sentences. Without it the body itself is an image.",
        json_schema_extra={"anyOf": [{"type": "string"}, {"type": "array"}, {"type": "object"}]},
    )
    parameters: HuggingFaceParameters | None = None
    normalize: bool | None = None
    prompt_name: str | None = None
    truncate: bool | None = None
    truncation_direction: str | None = None
    dimensions: int | None = Field(None, ge=1, le=65_536)

    @property
    def options(self) -> HuggingFaceParameters:
        """Return the options, whether they are in `parameters` or at the root."""
        given = {} if self.parameters is None else self.parameters.model_dump(exclude_none=True)
        root = self.model_dump(include=set(HuggingFaceParameters.model_fields), exclude_none=True)
        return HuggingFaceParameters(**{**given, **root})


class _Search(BaseModel):
    """Options of a translation's search; those that sample are refused."""

    model_config = ConfigDict(extra="forbid")

    num_beams: int | None = Field(None, ge=1, le=8)
    length_penalty: float | None = Field(None, ge=-5, le=5)
    max_length: int | None = Field(None, ge=1, le=1024)
    max_new_tokens: int | None = Field(None, ge=1, le=1024)
    do_sample: Literal[False] = False
    early_stopping: Any = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What a body asks for."""

    task: Task
    items: Sequence[AnyItem | ServiceError]
    is_list: bool
    """Whether the inputs are a list."""
    is_image: bool = False
    is_similarity: bool = False
    activation: Activation | None = None
    """What to apply to raw scores."""
    top_k: int | None = None
    is_by_token: bool = False
    """Whether spans are of tokens, which are not joined."""


@dataclass(frozen=True, slots=True)
class AskedByLabels:
    """What a body of a zero-shot task asks for."""

    items: Sequence[ClassifyItem | ServiceError]
    labels: GivenLabels
    """What to choose among."""
    is_list: bool
    """Whether the inputs are a list."""
    is_text: bool
    """Whether the inputs are texts, and no images."""
    top_k: int | None = None


def parse(body: Body, pipeline: Pipeline[Any, Any], limits: ApiLimits) -> Asked | AskedByLabels:
    """Return what a body asks the model for. Raises InvalidInputError, LimitExceededError."""
    wanted = validated(body.values, HuggingFaceBody)
    inputs: Any = wanted.inputs if body.image is None else body.image
    if inputs is None:
        raise InvalidInputError("the body has no inputs")
    if wanted.options.candidate_labels is not None:
        return _zero_shot(inputs, wanted.options, pipeline, limits)
    parsers: Mapping[Task, _Parser] = {
        Task.CLASSIFY: _classify,
        Task.TAG: _tag,
        Task.TRANSLATE: _translate,
        Task.GENERATE: _generate,
        Task.DETECT: _detect,
        Task.EMBED: _embed,
    }
    if pipeline.task not in parsers:
        raise InvalidInputError(f"model {pipeline.model.name!r} has no task of the Inference API")
    return parsers[pipeline.task](inputs, wanted.options, pipeline, limits)


def is_image(inputs: object, pipeline: Pipeline[Any, Any]) -> bool:
    """Return whether the inputs are images: of a model for both kinds, by how they begin."""
    if "image" not in pipeline.modalities or isinstance(inputs, bytes):
        return isinstance(inputs, bytes)
    if "text" not in pipeline.modalities:
        return True
    first = inputs[0] if isinstance(inputs, list) and inputs else inputs
    return (
        isinstance(first, str)
        and len(first) >= _LEAST_IMAGE
        and _IMAGE.match(first) is not None
        and " " not in first
    )


_Parser: TypeAlias = Callable[[Any, HuggingFaceParameters, Pipeline[Any, Any], ApiLimits], Asked]


def _listed(inputs: Any, limits: ApiLimits) -> tuple[Sequence[Any], bool]:
    if not isinstance(inputs, list):
        return [inputs], False
    check_count(len(inputs), limits)
    return inputs, True


def _content(value: Any, of_image: bool, limits: ApiLimits) -> Text | Image:
    return as_image(value, limits) if of_image else as_text(value, limits, "text")


def _classify(
    inputs: Any, options: HuggingFaceParameters, pipeline: Pipeline[Any, Any], limits: ApiLimits
) -> Asked:
    values, is_list = _listed(inputs, limits)
    of_image, activation = is_image(inputs, pipeline), options.function_to_apply
    # Of raw scores every one is needed.
    top_k = options.top_k if activation is None else None

    def item(value: Any) -> ClassifyItem:
        pair = None
        if isinstance(value, dict) and not of_image:
            pair = as_text(value.get("text_pair"), limits, "text_pair").text
            value = value.get("text")
        content = _content(value, of_image, limits)
        return ClassifyItem(content, top_k, pair, raw_scores=activation is not None)

    items = each(values, item)
    return Asked(
        Task.CLASSIFY, items, is_list, of_image, activation=activation, top_k=options.top_k
    )


def _tag(
    inputs: Any, options: HuggingFaceParameters, pipeline: Pipeline[Any, Any], limits: ApiLimits
) -> Asked:
    values, is_list = _listed(inputs, limits)
    aggregate = options.aggregation_strategy or "simple"  # clients expect groups
    ignored = ("O",) if options.ignore_labels is None else tuple(options.ignore_labels)
    items = each(
        values,
        lambda value: TagItem(
            as_text(value, limits, "text").text, aggregate, options.stride, ignored
        ),
    )
    return Asked(Task.TAG, items, is_list, is_by_token=aggregate == "none")


def _zero_shot(
    inputs: Any, options: HuggingFaceParameters, pipeline: Pipeline[Any, Any], limits: ApiLimits
) -> AskedByLabels:
    is_named = isinstance(inputs, dict)  # as the client for JavaScript sends an image
    values, is_list = _listed(inputs.get("image") if is_named else inputs, limits)
    of_image = is_named or is_image(inputs, pipeline)
    for place, label in enumerate(options.candidate_labels or ()):
        as_text(label, limits, f"candidate_labels[{place}]")
    labels = GivenLabels(
        tuple(options.candidate_labels or ()), options.hypothesis_template, options.multi_label
    )
    items = each(values, lambda value: ClassifyItem(_content(value, of_image, limits)))
    return AskedByLabels(items, labels, is_list, not of_image, options.top_k)


def _translate(
    inputs: Any, options: HuggingFaceParameters, pipeline: Pipeline[Any, Any], limits: ApiLimits
) -> Asked:
    values, is_list = _listed(inputs, limits)
    search = validated(options.generate_parameters or {}, _Search)
    most = limits.max_document_characters
    if (length := sum(len(text) for text in values if isinstance(text, str))) > most:
        raise LimitExceededError(f"{length} characters are over the limit of {most}")

    def item(value: Any) -> TranslateItem:
        return TranslateItem(
            as_text(value, limits, most=most).text,
            options.src_lang,
            options.tgt_lang,
            search.num_beams,
            search.length_penalty,
            search.max_new_tokens or search.max_length,
        )

    return Asked(Task.TRANSLATE, each(values, item), is_list)


def _generate(
    inputs: Any, options: HuggingFaceParameters, pipeline: Pipeline[Any, Any], limits: ApiLimits
) -> Asked:
    values, is_list = _listed(inputs, limits)
    search = validated(options.generate_parameters or {}, _Search)
    most = search.max_new_tokens or search.max_length
    chosen = (None, search.num_beams, search.length_penalty, most)
    items = each(values, lambda value: GenerateItem(as_text(value, limits).text, *chosen))
    return Asked(Task.GENERATE, items, is_list)


def _detect(
    inputs: Any, options: HuggingFaceParameters, pipeline: Pipeline[Any, Any], limits: ApiLimits
) -> Asked:
    if isinstance(inputs, list):
        raise InvalidInputError("object detection takes one image at a time")
    masks: MaskForm | None = "png" if "masks" in pipeline.family.traits.finds else None
    item = DetectItem(as_image(inputs, limits), options.threshold, masks=masks)
    return Asked(Task.DETECT, [item], False, True)


def _embed(
    inputs: Any, options: HuggingFaceParameters, pipeline: Pipeline[Any, Any], limits: ApiLimits
) -> Asked:
    if (options.truncation_direction or "right").lower() != "right":
        raise InvalidInputError(
            "texts that are too long lose their end: no other truncation_direction"
        )
    is_similarity = isinstance(inputs, dict)
    if is_similarity:
        inputs = _sentences(inputs, limits)
    values, is_list = _listed(inputs, limits)
    of_image = is_image(inputs, pipeline)

    def item(value: Any) -> EmbedItem:
        content = _content(value, of_image, limits)
        if options.truncate is False:
            _check_length(content, pipeline)
        return EmbedItem(content, options.prompt_name, options.dimensions, options.normalize)

    return Asked(Task.EMBED, each(values, item), is_list, of_image, is_similarity)


def _sentences(inputs: Mapping[str, Any], limits: ApiLimits) -> list[Any]:
    source, sentences = inputs.get("source_sentence"), inputs.get("sentences")
    if not isinstance(source, str) or not isinstance(sentences, list):
        raise InvalidInputError(
            "the inputs of sentence similarity are a source_sentence and a list of sentences"
        )
    check_count(len(sentences), limits)
    return [source, *sentences]


def _check_length(content: Text | Image, pipeline: Pipeline[Any, Any]) -> None:
    """Raise LimitExceededError for a text that the model would cut."""
    traits = pipeline.family.traits
    if isinstance(content, Image) or traits.tokenizer is None or traits.max_tokens is None:
        return
    if (count := traits.tokenizer.length(content.text)) > traits.max_tokens:
        raise LimitExceededError(
            f"the text has {count} tokens, and the model reads {traits.max_tokens}; with "
            "truncate it is cut"
        )
