"""Two towers, one space: a text and an image that mean the same get vectors that are close."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from service.errors import InvalidInputError
from service.families.image_input import ImageInput, ImageMode
from service.families.text_input import TextInput, fitted, is_heavy_text, one_output, open_tokenizer
from service.families.vectors import pooled_images, unit
from service.tasks import Embedding, EmbedItem, Image, Text
from service.transforms.vision.image import WHITE
from service.transforms.vision.processing import Processing
from service.types import Feeds, Lane, PreparedItem, Session, Sessions, Tensors

_TEXT = "text"
_IMAGE = "image"
_JOINT = "model"


@dataclass(frozen=True, slots=True)
class DualEncoderParameters:
    """The manifest's `[parameters]`: with a recipe `processing`, or the four numbers of one."""

    max_length: int
    """Tokens, special ones included; a longer text loses its end."""
    pad_id: int
    """Token that shorter texts of a batch are padded with."""
    pads_to_max_length: bool = False
    """Pad every text to `max_length`, as a network without a mask was trained on (SigLIP)."""
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
    background: tuple[int, int, int] = WHITE
    """What transparent pixels show."""
    tokenizer: str = "tokenizer.json"
    """File of the tokenizer."""
    tokenizer_class: str = ""
    """transformers' name, such as "SiglipTokenizer"; only tokenizer.json does without."""
    text_output: str = "text_embeds"
    """Name of the output of a text's vector."""
    image_output: str = "image_embeds"
    """Name of the output of an image's vector."""
    one_graph: bool = False
    """Both towers are in one graph `model`, of which each lane runs its own part."""


@dataclass(frozen=True, slots=True, eq=False)
class DualEncoder:
    """Task: embed. Lanes are `text` and `image`; so are their graphs, unless they share `model`.

    `text`: input_ids, attention_mask -> text_embeds [B, D];
    `image`: pixel_values -> image_embeds [B, D].
    """

    texts: TextInput
    images: ImageInput
    outputs: tuple[str, str]
    """Of the text tower and of the image tower."""
    one_graph: bool

    @classmethod
    def open(cls, folder: Path, parameters: DualEncoderParameters) -> "DualEncoder":
        """Read the tokenizer. Raises ModelLoadError, ValueError."""
        texts = TextInput(
            open_tokenizer(folder, parameters.tokenizer, parameters.tokenizer_class),
            parameters.max_length,
            parameters.pad_id,
            pads_to_max_length=parameters.pads_to_max_length,
        )
        outputs = (parameters.text_output, parameters.image_output)
        return cls(texts, ImageInput.of(parameters), outputs, parameters.one_graph)

    @property
    def modalities(self) -> frozenset[str]:
        """Return both."""
        return frozenset({"text", "image"})

    @property
    def parts(self) -> Mapping[str, Mapping[str, str]]:
        """Return the towers of a graph that holds both, which the lanes' sessions are made of."""
        if not self.one_graph:
            return {}
        return {_JOINT: dict(zip((_TEXT, _IMAGE), self.outputs, strict=True))}

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return a lane for each tower."""
        return [
            Lane(_TEXT, self.texts.lengths, [self._session(_TEXT)]),
            Lane(_IMAGE, self.images.lengths, [self._session(_IMAGE)]),
        ]

    def lane_of(self, item: EmbedItem) -> str:
        """Return the lane of the item's tower."""
        return _TEXT if isinstance(item.content, Text) else _IMAGE

    def is_heavy(self, item: EmbedItem) -> bool:
        """Tell whether it is an image or a long text."""
        return isinstance(item.content, Image) or is_heavy_text(item.content.text)

    def preprocess(self, item: EmbedItem) -> PreparedItem:
        """Tokenize or decode. Raises InvalidInputError and what `ImageInput.read` raises."""
        if isinstance(item.content, Text):
            if item.prompt_name is not None:
                raise InvalidInputError("this model has no prompts")
            return self.texts.work(item.content.text, _TEXT)
        return self.images.work(item.content, _IMAGE)

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        """Run the batch's tower once, then scale every vector to unit length."""
        lane = batch[0].lane
        if lane in sessions:
            outputs = sessions[lane].run(self._feeds(sessions[lane], batch, lane))
        else:
            outputs = sessions[_JOINT].run(self._joint_feeds(sessions[_JOINT], batch, lane))
        vectors = one_output(outputs, self.outputs[lane == _IMAGE])
        return [{"embedding": vector} for vector in unit(pooled_images(vectors, "none", 0))]

    def postprocess(self, result: Tensors, item: EmbedItem) -> Embedding:
        """Take the vector out of its batch, which a cache would otherwise keep whole."""
        return Embedding(result["embedding"].copy())

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a text of so many tokens, or an image of so many pixels."""
        if lane == _TEXT:
            return self.texts.probe(lane, length)
        return self.images.probe(lane, length)

    def _session(self, lane: str) -> str:
        return _JOINT if self.one_graph else lane

    def _feeds(self, session: Session, batch: Sequence[PreparedItem], lane: str) -> Feeds:
        if lane == _TEXT:
            return self.texts.feeds_for(session, batch)
        return self.images.feeds(batch, session)

    def _joint_feeds(self, session: Session, batch: Sequence[PreparedItem], lane: str) -> Feeds:
        texts = batch if lane == _TEXT else [self.texts.probe(_TEXT, self.texts.lengths[0])]
        images = batch if lane == _IMAGE else [self.images.probe(_IMAGE, self.images.lengths[0])]
        # The towers have a batch axis each, so the one nobody asked for gets a row of nothing.
        both = {**self.texts.feeds(texts), **self.images.feeds(images, session)}
        return fitted(both, session)
