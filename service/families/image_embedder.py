"""Networks that turn an image into a vector, and know no texts: DINOv2 and its like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidInputError
from service.families.image_input import ImageInput
from service.families.text_input import one_output
from service.families.vectors import ImagePooling, pooled_images, unit
from service.tasks import Embedding, EmbedItem, Image
from service.transforms.vision.image import WHITE
from service.transforms.vision.processing import ImageProcessor, Processing
from service.types import Lane, PreparedItem, Sessions, Tensors

_LANE = "default"
_SESSION = "model"


@dataclass(frozen=True, slots=True)
class ImageEmbedderParameters:
    """The manifest's `[parameters]`."""

    processing: Processing
    """How images are processed."""
    output: str = "pooler_output"
    """Name of the graph's output to take."""
    pooling: ImagePooling = "none"
    """none: the output is the vector. cls: its first token. mean: the mean of its tokens."""
    prefix_tokens: int = 1
    """Tokens before the image's own, which a mean leaves out: the class, and registers."""
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""

    def __post_init__(self) -> None:
        if self.prefix_tokens < 0:
            raise ValueError("prefix_tokens must not be negative")


@dataclass(frozen=True, slots=True, eq=False)
class ImageEmbedder:
    """Task: embed. Graph `model`: pixel_values -> a vector, or tokens to pool."""

    parameters: ImageEmbedderParameters
    images: ImageInput

    @classmethod
    def open(cls, folder: Path, parameters: ImageEmbedderParameters) -> "ImageEmbedder":
        """Need nothing of the folder."""
        images = ImageInput(ImageProcessor(parameters.processing), parameters.background)
        return cls(parameters, images)

    @property
    def modalities(self) -> frozenset[str]:
        """Return "image"."""
        return frozenset({"image"})

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return the one lane."""
        return [Lane(_LANE, self.images.lengths, [_SESSION])]

    def is_heavy(self, item: EmbedItem) -> bool:
        """Return True: decoding takes long."""
        return True

    def preprocess(self, item: EmbedItem) -> PreparedItem:
        """Decode and process. Raises what `ImageInput.read` raises."""
        if not isinstance(item.content, Image):
            raise InvalidInputError("this model reads images, not texts")
        return self.images.work(item.content, _LANE)

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        """Run once, pool, and scale every vector to unit length."""
        session, own = sessions[_SESSION], self.parameters
        output = one_output(session.run(self.images.feeds(batch, session)), own.output)
        vectors = unit(pooled_images(output, own.pooling, own.prefix_tokens))
        return [{"embedding": vector} for vector in vectors]

    def postprocess(self, result: Tensors, item: EmbedItem) -> Embedding:
        """Take the vector out of its batch, which a cache would otherwise keep whole."""
        return Embedding(result["embedding"].copy())

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return an image of so many pixels."""
        return self.images.probe(lane, length)
