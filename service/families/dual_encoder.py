"""Two towers, one vector space: a text and an image of the same meaning get close vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from typing_extensions import override

from service.errors import InvalidInputError
from service.families.family import CosineScores, Opened, Traits, check_template
from service.families.image_input import ImageInput, ImageParameters
from service.families.text_input import TextInput, TextParameters, fitted, is_long, one_output
from service.families.vectors import embedding_of, pooled_images, results_of
from service.tasks import Ability, ComposedTask, Embedding, EmbedItem, Text
from service.types import Feeds, Lane, Model, PreparedItem, Processor, Session, Sessions, Tensors

_TEXT = "text"
_IMAGE = "image"
_JOINT = "model"


@dataclass(frozen=True, kw_only=True)
class DualEncoderParameters(ImageParameters, TextParameters):
    """The manifest's `[parameters]`."""

    text_output: str = "text_embeds"
    """Name of the output of a text's vector."""
    image_output: str = "image_embeds"
    """Name of the output of an image's vector."""
    one_graph: bool = False
    """Both towers are in one graph `model`, of which each lane runs its own part."""
    logit_scale: float | None = None
    """What the model was trained to multiply cosines with: to score labels that a request gives.
    An export of both towers in one graph tells it."""
    logit_bias: float = 0.0
    """What is added to scaled cosines of texts and images (SigLIP)."""
    activation: Literal["softmax", "sigmoid"] = "softmax"
    """What makes scores of an image's labels: one label of all, or each by itself (SigLIP)."""
    hypothesis_template: str = "{}"
    """What to put around a label that a request gives for an image."""

    def __post_init__(self) -> None:
        check_template(self.hypothesis_template)

    @property
    def label_scores(self) -> CosineScores | None:
        """Return how it scores given labels; None if its scale is unknown."""
        if self.logit_scale is None:
            return None
        is_independent = self.activation == "sigmoid"
        template = self.hypothesis_template
        return CosineScores(self.logit_scale, self.logit_bias, is_independent, template)


def dual_encoder_abilities(parameters: DualEncoderParameters) -> frozenset[Ability]:
    """Return what can be composed of its answers."""
    if parameters.label_scores is None:
        return frozenset({(ComposedTask.RERANK, "text")})
    zero_shot = {(ComposedTask.ZERO_SHOT, modality) for modality in (_TEXT, _IMAGE)}
    return frozenset({(ComposedTask.RERANK, "text"), *zero_shot})


def open_dual_encoder(
    folder: Path, parameters: DualEncoderParameters
) -> Opened[EmbedItem, Embedding]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    texts = TextInput.open(folder, parameters)
    images = ImageInput.of(parameters)
    outputs = {_TEXT: parameters.text_output, _IMAGE: parameters.image_output}
    processor = DualEncoderProcessor(texts, images)
    model = DualEncoderModel(texts, images, outputs, parameters.one_graph)
    parts = {_JOINT: outputs} if parameters.one_graph else {}
    traits: Traits[EmbedItem, Embedding] = Traits(
        tokenizer=texts.tokenizer,
        max_tokens=texts.max_length,
        lane_of=processor.lane_of,
        parts=parts,
        label_scores=parameters.label_scores,
    )
    return Opened(processor, model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class DualEncoderProcessor(Processor[EmbedItem, Embedding]):
    """Tokenizes texts and decodes images."""

    texts: TextInput
    images: ImageInput

    @override
    def offload(self, item: EmbedItem) -> bool:
        return not isinstance(item.content, Text) or is_long(item.content.text)

    def lane_of(self, item: EmbedItem) -> str:
        """Return the lane of the item's modality."""
        return _TEXT if isinstance(item.content, Text) else _IMAGE

    @override
    def preprocess(self, item: EmbedItem) -> PreparedItem:
        if isinstance(item.content, Text):
            if item.prompt_name is not None:
                raise InvalidInputError("this model has no prompts")
            return self.texts.prepare(item.content.text, _TEXT)
        return self.images.prepare(item.content, _IMAGE)

    @override
    def postprocess(self, result: Tensors, item: EmbedItem) -> Embedding:
        return embedding_of(result, item)


@dataclass(frozen=True, slots=True, eq=False)
class DualEncoderModel(Model):
    """Lanes are `text` and `image`; so are their graphs, unless they share `model`.

    `text`: input_ids, attention_mask -> text_embeds [B, D];
    `image`: pixel_values -> image_embeds [B, D].
    """

    texts: TextInput
    images: ImageInput
    outputs: Mapping[str, str]
    """By lane."""
    one_graph: bool

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [
            Lane(_TEXT, self.texts.lengths, [self._session(_TEXT)]),
            Lane(_IMAGE, self.images.lengths, [self._session(_IMAGE)]),
        ]

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        lane = batch[0].lane
        if lane in sessions:
            outputs = sessions[lane].run(self._feeds(sessions[lane], batch, lane))
        else:
            outputs = sessions[_JOINT].run(self._joint_feeds(sessions[_JOINT], batch, lane))
        vectors = one_output(outputs, self.outputs[lane])
        return results_of(pooled_images(vectors, "none", 0))

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        if lane == _TEXT:
            return self.texts.probe(lane, length)
        return self.images.probe(lane, length)

    def _session(self, lane: str) -> str:
        return _JOINT if self.one_graph else lane

    def _feeds(self, session: Session, batch: Sequence[PreparedItem], lane: str) -> Feeds:
        if lane == _TEXT:
            return self.texts.feeds_for(session, batch)
        return self.images.feeds_for(session, batch)

    def _joint_feeds(self, session: Session, batch: Sequence[PreparedItem], lane: str) -> Feeds:
        """Return feeds for both towers; the other one gets a single placeholder row."""
        texts = batch if lane == _TEXT else [self.texts.probe(_TEXT, self.texts.lengths[0])]
        images = batch if lane == _IMAGE else [self.images.probe(_IMAGE, self.images.lengths[0])]
        both = {**self.texts.feeds(texts), **self.images.feeds_for(session, images)}
        return fitted(both, session)
