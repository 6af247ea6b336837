"""Sentence embedders: an encoder's states, pooled to one vector a text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError, InvalidInputError
from service.families.family import LANE, SESSION, CosineScores, Opened, SingleGraphModel, Traits
from service.families.text_input import TextInput, TextParameters, is_long, one_output
from service.families.vectors import (
    TokenPooling,
    embedding_of,
    pooled_tokens,
    results_of,
    sparse_of,
    sparse_result,
    token_vectors_of,
)
from service.tasks import Ability, ComposedTask, Embedding, EmbedItem, Task, Text, VectorForm
from service.types import Feeds, PreparedItem, Processor, Sessions, Tensors

_STATES = ("last_hidden_state", "token_embeddings")
_VECTOR = "sentence_embedding"

_FORMS: Final[tuple[VectorForm, ...]] = get_args(VectorForm)

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
    output: str = _VECTOR
    """Output with the vector, where pooling is none."""
    token_output: str | None = None
    """Output with a vector for each token (ColBERT). If not given: the states that are pooled; with
    pooling none there are no such vectors."""
    sparse_output: str | None = None
    """Output with a weight for each token, from which sparse vectors are made (BGE-M3)."""
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


def text_embedder_abilities(parameters: TextEmbedderParameters) -> frozenset[Ability]:
    """Return what can be composed of its answers, and whether it gives sparse vectors too."""
    able: set[Ability] = {(ComposedTask.ZERO_SHOT, "text"), (ComposedTask.RERANK, "text")}
    return frozenset(able | ({(Task.SPARSE, "text")} if parameters.sparse_output else set()))


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
        if item.form != "vector":
            self._check_form(item.form)
            form = {"form": np.array(_FORMS.index(item.form))}
            return PreparedItem({**prepared.tensors, **form}, LANE, prepared.length)
        if not prompt or self.parameters.pools_prompt:
            return prepared
        skipped = np.array(self._prompt_tokens(prompt, prepared), np.int64)
        return PreparedItem({**prepared.tensors, "skipped": skipped}, LANE, prepared.length)

    @override
    def postprocess(self, result: Tensors, item: EmbedItem) -> Embedding:
        match item.form:
            case "tokens":
                return token_vectors_of(result, item)
            case "sparse":
                return sparse_of(result, item)
            case "vector":
                return embedding_of(result, item)

    def _check_form(self, form: VectorForm) -> None:
        """Raise InvalidInputError if the graph does not give this form."""
        own = self.parameters
        if form == "sparse" and own.sparse_output is None:
            raise InvalidInputError("this model gives no sparse vectors")
        if form == "tokens" and own.token_output is None and own.pooling == "none":
            raise InvalidInputError("the graph of this model gives no vectors of tokens")

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
        forms = [_FORMS[int(one.tensors.get("form", 0))] for one in batch]
        found: list[Tensors] = []
        if "vector" in forms:
            vectors = _finite(self._vectors(outputs, batch))
            own = self.parameters
            found = list(results_of(vectors, normalizes=own.normalize, kept=own.truncate_dim))
        if {*forms} == {"vector"}:
            return found
        return [
            found[row] if form == "vector" else self._of_tokens(outputs, row, prepared, form)
            for row, (form, prepared) in enumerate(zip(forms, batch, strict=True))
        ]

    def _of_tokens(
        self, outputs: Feeds, row: int, prepared: PreparedItem, form: VectorForm
    ) -> Tensors:
        """Return what one text's tokens have."""
        ids, own = prepared.tensors["input_ids"], self.parameters
        name = own.sparse_output if form == "sparse" else own.token_output
        values = self._states(outputs) if name is None else _named(outputs, name)
        values = _finite(values[row, : len(ids)].astype(np.float32))
        if form == "tokens":
            return {"tokens": values}
        special = [*self.input.tokenizer.frame_ids, self.input.pad_id]
        weights = np.where(np.isin(ids, special), 0, values.reshape(len(ids)))
        largest = np.zeros(int(ids.max()) + 1, np.float32)
        np.maximum.at(largest, ids, weights)
        return sparse_result(largest)

    def _vectors(self, outputs: Feeds, batch: Sequence[PreparedItem]) -> NDArray[np.float32]:
        pooling = self.parameters.pooling
        if pooling == "none":
            output = one_output(outputs, self.parameters.output)
            vectors: NDArray[np.float32] = output.astype(np.float32)
            return vectors
        return pooled_tokens(self._states(outputs), self._counted(batch), pooling)

    @staticmethod
    def _states(outputs: Feeds) -> NDArray[Any]:
        return one_output(outputs, next((name for name in _STATES if name in outputs), _STATES[0]))

    def _counted(self, batch: Sequence[PreparedItem]) -> NDArray[Any]:
        """Return the attention mask without the tokens that pooling leaves out."""
        mask = self.input.feeds(batch)["attention_mask"]
        for row, prepared in zip(mask, batch, strict=True):
            if (skipped := prepared.tensors.get("skipped")) is not None:
                row[: int(skipped)] = 0
        return mask


def _named(outputs: Feeds, name: str) -> NDArray[Any]:
    if name not in outputs:
        raise InferenceError(f"the graph gives {', '.join(outputs)}, but no {name!r}")
    return outputs[name]


def _finite(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    if not np.isfinite(vectors).all():
        raise InferenceError("the graph gives a vector that is not finite")
    return vectors
