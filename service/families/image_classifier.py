"""Image networks with a classification head: one image, one score a label."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidInputError
from service.families.image_input import ImageInput, ImageMode
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
from service.transforms.vision.image import WHITE
from service.transforms.vision.processing import Processing
from service.types import Lane, PreparedItem, Sessions, Tensors, TensorSpec

_LANE = "default"
_SESSION = "model"


@dataclass(frozen=True, slots=True)
class ImageClassifierParameters:
    """The manifest's `[parameters]`: with a recipe `processing`, or the four numbers of one."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order; they may repeat."""
    processing: Processing | None = None
    """How images are processed; it stands in place of the short keys below."""
    image_size: tuple[int, int] | None = None
    """Height and width; an image is stretched to it."""
    mode: ImageMode = "RGB"
    """The colours that the network sees."""
    mean: tuple[float, ...] | None = None
    """Per channel, subtracted from pixels of 0 to 1."""
    std: tuple[float, ...] | None = None
    """Per channel, divided by after that."""
    activation: Activation = "softmax"
    """What makes scores of the graph's numbers: `none` where it gives scores."""
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        check_labels(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class ImageClassifier:
    """Task: classify. Graph `model`: pixel_values -> logits [B, labels]."""

    labels: tuple[str, ...]
    activation: Activation
    images: ImageInput

    @classmethod
    def open(cls, folder: Path, parameters: ImageClassifierParameters) -> "ImageClassifier":
        """Need nothing of the folder. Raises ValueError."""
        return cls(parameters.labels, parameters.activation, ImageInput.of(parameters))

    @property
    def modalities(self) -> frozenset[str]:
        """Return "image"."""
        return frozenset({"image"})

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.images.lengths, [_SESSION])]

    def is_heavy(self, item: ClassifyItem) -> bool:
        """Return True: decoding takes long."""
        return True

    def preprocess(self, item: ClassifyItem) -> PreparedItem:
        """Decode and process. Raises what `ImageInput.read` raises."""
        check_top_k(item.top_k)
        if not isinstance(item.content, Image):
            raise InvalidInputError("this model reads images, not texts")
        return self.images.work(item.content, _LANE)

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        """Run once, then score and order."""
        session = sessions[_SESSION]
        outputs = session.run(self.images.feeds(batch, session))
        return ranked(one_output(outputs, "logits"), self.labels, self.activation)

    def postprocess(self, result: Tensors, item: ClassifyItem) -> Classification:
        """Name the scores."""
        return best_labels(result, self.labels, item.top_k)

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        return scores_problem(outputs[_SESSION], self.labels)

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return an image of so many pixels."""
        return self.images.probe(lane, length)
