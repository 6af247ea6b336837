"""Image networks with a classification head: one image, one score a label."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidInputError
from service.families.inputs import ImageInput, ImageMode
from service.families.labelling import best_labels, check_labels, check_top_k, ranked
from service.tasks import Classification, ClassifyItem, Image
from service.transforms.image import WHITE
from service.types import Lane, Sessions, Tensors, Work

_LANE = "default"
_SESSION = "model"


@dataclass(frozen=True, slots=True)
class ImageClassifierParameters:
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    image_size: tuple[int, int]
    """Height and width; an image is stretched to it."""
    mode: ImageMode
    mean: tuple[float, ...]
    std: tuple[float, ...]
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        check_labels(self.labels)


@dataclass(frozen=True, slots=True, eq=False)
class ImageClassifier:
    """Task: classify. Graph `model`: pixel_values -> logits [B, labels]."""

    labels: tuple[str, ...]
    images: ImageInput

    @classmethod
    def open(cls, folder: Path, parameters: ImageClassifierParameters) -> "ImageClassifier":
        """Need nothing of the folder. Raises ValueError."""
        images = ImageInput(
            parameters.image_size,
            parameters.mode,
            parameters.mean,
            parameters.std,
            parameters.background,
        )
        return cls(parameters.labels, images)

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

    def preprocess(self, item: ClassifyItem) -> Work:
        """Decode, stretch, normalise. Raises what `decode_image` raises."""
        check_top_k(item.top_k)
        if not isinstance(item.content, Image):
            raise InvalidInputError("this model reads images, not texts")
        return self.images.work(item.content, _LANE)

    def infer(self, sessions: Sessions, batch: Sequence[Work]) -> Sequence[Tensors]:
        """Run once, then softmax and order."""
        logits = sessions[_SESSION].run(self.images.feeds(batch))["logits"]
        return ranked(logits, self.labels)

    def postprocess(self, result: Tensors, item: ClassifyItem) -> Classification:
        """Name the scores."""
        return best_labels(result, self.labels, item.top_k)

    def probe(self, lane: str, length: int) -> Work:
        """Return an image of the one size there is."""
        return self.images.probe(lane)
