"""Networks that turn an image into a vector: DINOv2 and the like."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from typing_extensions import override

from service.errors import InvalidInputError
from service.families.family import LANE, SESSION, Opened, SingleGraphModel
from service.families.image_input import ImageInput
from service.families.text_input import one_output
from service.families.vectors import ImagePooling, embedding_of, pooled_images, results_of
from service.tasks import Embedding, EmbedItem, Text
from service.transforms.vision.image import WHITE
from service.transforms.vision.processing import ImageProcessor, Processing
from service.types import PreparedItem, Processor, Sessions, Tensors


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


def open_image_embedder(
    folder: Path, parameters: ImageEmbedderParameters
) -> Opened[EmbedItem, Embedding]:
    """Use nothing of the folder. Raises ValueError."""
    images = ImageInput(ImageProcessor(parameters.processing), parameters.background)
    return Opened(ImageEmbedderProcessor(images), ImageEmbedderModel(images, parameters))


@dataclass(frozen=True, slots=True, eq=False)
class ImageEmbedderProcessor(Processor[EmbedItem, Embedding]):
    """Decodes images."""

    images: ImageInput

    @override
    def offload(self, item: EmbedItem) -> bool:
        return True

    @override
    def preprocess(self, item: EmbedItem) -> PreparedItem:
        if isinstance(item.content, Text):
            raise InvalidInputError("this model reads images, not texts")
        return self.images.prepare(item.content, LANE)

    @override
    def postprocess(self, result: Tensors, item: EmbedItem) -> Embedding:
        return embedding_of(result, item)


@dataclass(frozen=True, slots=True, eq=False)
class ImageEmbedderModel(SingleGraphModel[ImageInput]):
    """Graph `model`: pixel_values -> a vector, or tokens or a map to pool."""

    parameters: ImageEmbedderParameters

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session, own = sessions[SESSION], self.parameters
        output = one_output(session.run(self.input.feeds_for(session, batch)), own.output)
        return results_of(pooled_images(output, own.pooling, own.prefix_tokens))
