"""Bodies of text-embeddings-inference: of requests, of answers and of errors."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field, RootModel

from service.api.content import as_text, check_count, each
from service.errors import InvalidInputError, ServiceError
from service.protocols.bodies import refuse_token_ids
from service.protocols.protocol import ProtocolBody
from service.requests.admission import ApiLimits
from service.requests.usage import Whole
from service.tasks import ClassifyItem, EmbedItem, Text, VectorForm

_PAIR = 2

Side = Annotated[
    Literal["left", "right"],
    BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
]


class TeiError(BaseModel):
    """An error of text-embeddings-inference."""

    error: str
    error_type: Literal["Unhealthy", "Backend", "Overloaded", "Validation"]


class TruncatingBody(ProtocolBody):
    """How to treat a text that is too long for the model."""

    truncate: bool | None = Field(
        None, description="Whether to cut it. false: it is refused. The default is true."
    )
    truncation_direction: Side | None = Field(None, description="Which end is cut.")

    def whole(self) -> Whole:
        """Return what asks the model, and refuses what would be cut in another way."""
        return Whole(self.truncate is not False, self.truncation_direction != "left")


class TeiTextsBody(TruncatingBody):
    """Texts to embed sparsely, or token by token."""

    inputs: str | list[Any] = Field(description="A text, or a list of texts.")
    prompt_name: str | None = None

    def items(self, limits: ApiLimits, form: VectorForm) -> Sequence[EmbedItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        return each(
            texts_of(self.inputs, limits),
            lambda value: EmbedItem(as_text(value, limits, "input"), self.prompt_name, form=form),
        )


class TeiEmbedBody(TruncatingBody):
    """Texts to embed."""

    inputs: str | list[Any] = Field(description="A text, or a list of texts.")
    normalize: bool = True
    prompt_name: str | None = None
    dimensions: Annotated[int, Field(ge=1, le=65_536)] | None = None

    def items(self, limits: ApiLimits) -> Sequence[EmbedItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        values = texts_of(self.inputs, limits)
        return each(
            values,
            lambda value: EmbedItem(
                as_text(value, limits, "input"), self.prompt_name, self.dimensions, self.normalize
            ),
        )


class TeiPredictBody(TruncatingBody):
    """Texts, or pairs of texts, to classify."""

    inputs: str | list[Any] = Field(
        description="A text, a pair `[a, b]`, or a list of these, each in a list: `[[a], [b, c]]`."
    )
    raw_scores: bool = False

    @property
    def is_batch(self) -> bool:
        """Return whether there is a list of answers."""
        return isinstance(self.inputs, list) and any(isinstance(one, list) for one in self.inputs)

    def items(self, limits: ApiLimits) -> Sequence[ClassifyItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        values = self.inputs if isinstance(self.inputs, list) and self.is_batch else [self.inputs]
        check_count(len(values), limits)
        return each(values, lambda value: self._item(value, limits))

    def _item(self, value: Any, limits: ApiLimits) -> ClassifyItem:
        parts = value if isinstance(value, list) else [value]
        if not 1 <= len(parts) <= _PAIR:
            raise InvalidInputError("an input must be one text, or a pair of texts")
        text, *pair = (as_text(part, limits, "input") for part in parts)
        return ClassifyItem(
            text, text_pair=pair[0].text if pair else None, raw_scores=self.raw_scores
        )


class TeiRerankBody(TruncatingBody):
    """A query, and texts to order by their relevance to it."""

    query: str
    texts: list[Any]
    raw_scores: bool = False
    return_text: bool = False
    top_n: Annotated[int, Field(ge=1)] | None = None

    def documents(self, limits: ApiLimits) -> Sequence[Text | ServiceError]:
        """Return the texts. Raises InvalidInputError, LimitExceededError."""
        check_count(len(self.texts), limits)
        return each(self.texts, lambda text: as_text(text, limits))


class TeiSentences(BaseModel):
    """A text, and texts to compare it with."""

    source_sentence: str
    sentences: list[Any]


class TeiSimilarityParameters(TruncatingBody):
    """How to embed the sentences."""

    prompt_name: str | None = None


class TeiSimilarityBody(ProtocolBody):
    """Sentences to compare."""

    inputs: TeiSentences
    parameters: TeiSimilarityParameters | None = None

    def items(self, limits: ApiLimits) -> Sequence[EmbedItem | ServiceError]:
        """Return the source and the sentences. Raises InvalidInputError, LimitExceededError."""
        check_count(len(self.inputs.sentences), limits)
        prompt = self.parameters.prompt_name if self.parameters else None
        texts = [self.inputs.source_sentence, *self.inputs.sentences]
        return each(
            texts, lambda text: EmbedItem(as_text(text, limits, "sentence"), prompt, normalize=True)
        )


class TeiTokenizeBody(ProtocolBody):
    """Texts to tokenize."""

    inputs: str | list[Any]
    add_special_tokens: bool = True
    prompt_name: str | None = None


class TeiDecodeBody(ProtocolBody):
    """Token ids to turn into texts."""

    ids: list[Any] = Field(description="Token ids, or a list of lists of them.")
    skip_special_tokens: bool = True


class VertexBody(ProtocolBody):
    """Bodies of `POST /`, one for each instance."""

    instances: list[dict[str, Any]]


class VertexAnswer(BaseModel):
    """The answers, in order."""

    predictions: list[Any]


class TeiPrediction(BaseModel):
    """A label and its score."""

    score: float
    label: str


class TeiRank(BaseModel):
    """A text and its relevance."""

    index: int
    score: float
    text: str | None = None


class TeiToken(BaseModel):
    """A token of a text."""

    id: int
    text: str
    special: bool
    start: int | None
    stop: int | None


class TeiWeight(BaseModel):
    """The weight of a token of the vocabulary."""

    index: int
    value: float


class TeiSparseVectors(RootModel[list[list[TeiWeight]]]):
    """The weights that are not 0, for each text."""


class TeiTokenVectors(RootModel[list[list[list[float]]]]):
    """A vector for each token of each text."""


class TeiVectors(RootModel[list[list[float]]]):
    """A vector for each text."""


class TeiPredictions(RootModel[list[TeiPrediction] | list[list[TeiPrediction]]]):
    """Labels of one text or pair, or of each of several."""


class TeiRanking(RootModel[list[TeiRank]]):
    """Texts by descending relevance."""


class TeiSimilarities(RootModel[list[float]]):
    """The cosine with each sentence."""


class TeiAnswers(
    RootModel[
        list[list[float]]
        | list[TeiPrediction]
        | list[list[TeiPrediction]]
        | list[list[TeiWeight]]
        | list[TeiRank]
        | list[float]
    ]
):
    """What the model is for: vectors, labels, weights, an order of texts, or cosines."""


class TeiTokens(RootModel[list[list[TeiToken]]]):
    """The tokens of each text."""


class TeiTexts(RootModel[list[str]]):
    """A text for each list of ids."""


def texts_of(inputs: str | list[Any], limits: ApiLimits) -> Sequence[Any]:
    """Return one or more inputs as a list.

    Raises:
        InvalidInputError: there are none, or they are token ids.
        LimitExceededError: there are too many.
    """
    values = [inputs] if isinstance(inputs, str) else inputs
    refuse_token_ids(values)
    check_count(len(values), limits)
    return values
