"""Sentence embedders: an encoder's states, pooled to one vector a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError, InvalidInputError
from service.families.family import LANE, SESSION, CosineScores, Opened, SingleGraphModel, Traits
from service.families.text_input import TextInput, TextParameters, is_long, one_output
from service.families.vectors import TokenPooling, embedding_of, pooled_tokens, results_of
from service.tasks import Ability, ComposedTask, Embedding, EmbedItem, Text
from service.types import Feeds, PreparedItem, Processor, Sessions, Tensors

_STATES = ("last_hidden_state", "token_embeddings")
_VECTOR = "sentence_embedding"

Pooling: TypeAlias = TokenPooling | Literal["none"]


@dataclass(frozen=True, kw_only=True)
class TextEmbedderParameters(TextParameters):
    """The manifest's `[parameters]`."""

    pooling: Pooling
    """How states become a vector; "none" for a graph that gives `sentence_embedding` itself."""
    normalize: bool = True
    """Whether vectors are scaled to unit length."""
    truncate_dim: int | None = None
    """Numbers of a vector that are kept, after it was scaled; None keeps all."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """What to put before a text, by the name that a caller may ask for."""
    default_prompt_name: str | None = None
    """The prompt where an item names none; if not given, no prompt."""
    pools_prompt: bool = True
    """Whether the prompt's tokens count in the pooling."""
    logit_scale: float = 20.0
    """What cosines are multiplied with before the softmax, to score labels that a request gives.
    The losses of sentence-transformers train with 20."""

    def __post_init__(self) -> None:
        default = self.default_prompt_name
        if default is not None and default not in self.prompts:
            raise ValueError(f"default_prompt_name is {default!r}, which is not among the prompts")
        if self.truncate_dim is not None and self.truncate_dim < 1:
            raise ValueError("truncate_dim must be at least 1")


def open_text_embedder(
    folder: Path, parameters: TextEmbedderParameters
) -> Opened[EmbedItem, Embedding]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    texts = TextInput.open(folder, parameters)
    traits: Traits[EmbedItem, Embedding] = Traits(
        tokenizer=texts.tokenizer,
        max_tokens=texts.max_length,
        pooling=parameters.pooling,
        prompts=parameters.prompts,
        label_scores=CosineScores(parameters.logit_scale),
    )
    processor = TextEmbedderProcessor(parameters, texts)
    return Opened(processor, TextEmbedderModel(texts, parameters), traits)


def text_embedder_abilities(_: TextEmbedderParameters) -> frozenset[Ability]:
    """Return what can be composed of its answers."""
    return frozenset({(ComposedTask.ZERO_SHOT, "text"), (ComposedTask.RERANK, "text")})


@dataclass(frozen=True, slots=True, eq=False)
class TextEmbedderProcessor(Processor[EmbedItem, Embedding]):
    """Tokenizes texts, with their prompts in front."""

    parameters: TextEmbedderParameters
    texts: TextInput

    @override
    def offload(self, item: EmbedItem) -> bool:
        return isinstance(item.content, Text) and is_long(item.content.text)

    @override
    def preprocess(self, item: EmbedItem) -> PreparedItem:
        if not isinstance(item.content, Text):
            raise InvalidInputError("this model reads texts, not images")
        if not item.content.text or item.content.text.isspace():
            raise InvalidInputError("the text is empty")
        prompt = self._prompt(item.prompt_name)
        prepared = self.texts.prepare(prompt + item.content.text, LANE)
        if not prompt or self.parameters.pools_prompt:
            return prepared
        skipped = np.array(self._prompt_tokens(prompt, prepared), np.int64)
        return PreparedItem({**prepared.tensors, "skipped": skipped}, LANE, prepared.length)

    @override
    def postprocess(self, result: Tensors, item: EmbedItem) -> Embedding:
        return embedding_of(result, item)

    def _prompt(self, name: str | None) -> str:
        prompts = self.parameters.prompts
        chosen = self.parameters.default_prompt_name if name is None else name
        if chosen is None:
            return ""
        if chosen not in prompts:
            known = ", ".join(prompts) or "none"
            raise InvalidInputError(f"this model has no prompt of that name; it has {known}")
        return prompts[chosen]

    def _prompt_tokens(self, prompt: str, prepared: PreparedItem) -> int:
        """Return the number of the row's tokens that belong to the prompt, [CLS] included."""
        ids, _ = self.texts.tokenizer.encode(prompt, self.texts.max_length)
        # The special tokens at the end follow the text; the text must keep at least one token.
        ends = ids[-1] == prepared.tensors["input_ids"][-1]
        return min(len(ids) - bool(ends), len(prepared.tensors["input_ids"]) - 1)


@dataclass(frozen=True, slots=True, eq=False)
class TextEmbedderModel(SingleGraphModel[TextInput]):
    """Graph `model`: input_ids, attention_mask -> states [B, T, D] or vectors [B, D]."""

    parameters: TextEmbedderParameters

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[SESSION]
        outputs = session.run(self.input.feeds_for(session, batch))
        vectors = self._vectors(outputs, batch)
        if not np.isfinite(vectors).all():
            raise InferenceError("the graph gives a vector that is not finite")
        own = self.parameters
        return results_of(vectors, normalizes=own.normalize, kept=own.truncate_dim)

    def _vectors(self, outputs: Feeds, batch: Sequence[PreparedItem]) -> NDArray[np.float32]:
        pooling = self.parameters.pooling
        if pooling == "none":
            vectors: NDArray[np.float32] = one_output(outputs, _VECTOR).astype(np.float32)
            return vectors
        name = next((name for name in _STATES if name in outputs), _STATES[0])
        return pooled_tokens(one_output(outputs, name), self._counted(batch), pooling)

    def _counted(self, batch: Sequence[PreparedItem]) -> NDArray[Any]:
        """Return the attention mask without the tokens that pooling leaves out."""
        mask = self.input.feeds(batch)["attention_mask"]
        for row, prepared in zip(mask, batch, strict=True):
            if (skipped := prepared.tensors.get("skipped")) is not None:
                row[: int(skipped)] = 0
        return mask
