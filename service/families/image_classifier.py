"""Image networks with a classification head: one image, one score a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from service.errors import InvalidInputError
from service.families.family import Opened, Traits
from service.families.image_input import ImageInput, ImageParameters
from service.families.scores import (
    Activation,
    best_labels,
    check_labels,
    check_top_k,
    ranked,
    scores_problem,
)
from service.families.text_input import one_output
from service.tasks import Classification, ClassifyItem, Image
from service.types import Lane, Model, PreparedItem, Processor, Sessions, Tensors, TensorSpec

_LANE = "default"
_SESSION = "model"


@dataclass(frozen=True, kw_only=True)
class ImageClassifierParameters(ImageParameters):
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    activation: Activation = "softmax"
    """What makes scores of the graph's numbers: `none` where it gives scores."""

    def __post_init__(self) -> None:
        check_labels(self.labels)


def open_image_classifier(
    folder: Path, parameters: ImageClassifierParameters
) -> Opened[ClassifyItem, Classification]:
    """Use nothing of the folder. Raises ValueError."""
    images = ImageInput.of(parameters)
    model = ImageClassifierModel(parameters.labels, parameters.activation, images)
    traits: Traits[ClassifyItem, Classification] = Traits(head_problem=model.head_problem)
    return Opened(ImageClassifierProcessor(parameters.labels, images), model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class ImageClassifierProcessor(Processor[ClassifyItem, Classification]):
    """Decodes images and names scores."""

    labels: tuple[str, ...]
    images: ImageInput

    @override
    def offload(self, item: ClassifyItem) -> bool:
        return True

    @override
    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        check_top_k(item.top_k)
        if not isinstance(item.content, Image):
            raise InvalidInputError("this model reads images, not texts")
        return self.images.prepare(item.content, _LANE)

    @override
    def postprocess(self, result: Tensors, item: ClassifyItem) -> Classification:
        return best_labels(result, self.labels, item.top_k)


@dataclass(frozen=True, slots=True, eq=False)
class ImageClassifierModel(Model):
    """Graph `model`: pixel_values -> logits [B, labels]."""

    labels: tuple[str, ...]
    activation: Activation
    images: ImageInput

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [Lane(_LANE, self.images.lengths, [_SESSION])]

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[_SESSION]
        outputs = session.run(self.images.feeds(batch, session))
        return ranked(one_output(outputs, "logits"), self.labels, self.activation)

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        return self.images.probe(lane, length)

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        return scores_problem(outputs[_SESSION], self.labels)
