"""Sparse text embedders: a masked language model's scores, pooled to a weight for each token."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError, InvalidInputError
from service.families.family import Opened, Traits
from service.families.text_input import TextInput, TextParameters, is_long, one_output
from service.families.vectors import sparse_of, sparse_result
from service.tasks import Embedding, EmbedItem, Text
from service.types import Lane, Model, PreparedItem, Processor, Sessions, Tensors, TensorSpec

_LANE = "default"
_SESSION = "model"
_RANK = 3


@dataclass(frozen=True, kw_only=True)
class SparseEmbedderParameters(TextParameters):
    """The manifest's `[parameters]`."""

    pooling: Literal["max", "sum"] = "max"
    """How the scores of a text's tokens become one score, after the activation."""
    activation: Literal["relu", "log1p_relu"] = "relu"
    """What is applied to scores before log(1 + x), by the names of sentence-transformers."""


def open_sparse_embedder(
    folder: Path, parameters: SparseEmbedderParameters
) -> Opened[EmbedItem, Embedding]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    texts = TextInput.open(folder, parameters)
    model = SparseEmbedderModel(parameters, texts)
    traits: Traits[EmbedItem, Embedding] = Traits(
        tokenizer=texts.tokenizer,
        max_tokens=texts.max_length,
        pooling="splade",
        head_problem=model.head_problem,
    )
    return Opened(SparseEmbedderProcessor(texts), model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class SparseEmbedderProcessor(Processor[EmbedItem, Embedding]):
    """Tokenizes texts."""

    texts: TextInput

    @override
    def offload(self, item: EmbedItem) -> bool:
        return isinstance(item.content, Text) and is_long(item.content.text)

    @override
    def preprocess(self, item: EmbedItem) -> PreparedItem:
        if not isinstance(item.content, Text):
            raise InvalidInputError("this model reads texts, not images")
        if item.form != "sparse":
            raise InvalidInputError("this model gives sparse vectors only")
        if item.prompt_name is not None:
            raise InvalidInputError("this model has no prompts")
        return self.texts.prepare(item.content.text, _LANE)

    @override
    def postprocess(self, result: Tensors, item: EmbedItem) -> Embedding:
        return sparse_of(result, item)


@dataclass(frozen=True, slots=True, eq=False)
class SparseEmbedderModel(Model):
    """Graph `model`: input_ids, attention_mask -> logits [B, T, V] of the vocabulary."""

    parameters: SparseEmbedderParameters
    texts: TextInput

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [Lane(_LANE, self.texts.lengths, [_SESSION])]

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[_SESSION]
        logits = one_output(session.run(self.texts.feeds_for(session, batch)), "logits")
        if logits.ndim != _RANK:
            raise InferenceError(f"the graph gives scores of {logits.ndim} axes instead of {_RANK}")
        return [
            sparse_result(self._pooled(row[: len(one.tensors["input_ids"])]))
            for row, one in zip(logits, batch, strict=True)
        ]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        return self.texts.probe(lane, length)

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the axes of the scores with those of a masked language model."""
        given = outputs[_SESSION]
        shape = given.get("logits", next(iter(given.values()))).shape
        if shape and len(shape) != _RANK:
            return f"the graph gives scores of {len(shape)} axes instead of {_RANK}"
        return None

    def _pooled(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        """Return the weights [V] of the tokens' scores [T, V]."""
        if self.parameters.pooling == "max":  # the activation keeps the order: apply it once
            return self._activated(logits.max(axis=0))
        sums: NDArray[np.float32] = self._activated(logits).sum(axis=0, dtype=np.float32)
        return sums

    def _activated(self, logits: NDArray[Any]) -> NDArray[np.float32]:
        floats = logits.astype(np.float32)
        if not np.isfinite(floats).all():
            raise InferenceError("the graph gives a score that is not a finite number")
        weights: NDArray[np.float32] = np.log1p(np.maximum(floats, 0))
        if self.parameters.activation == "log1p_relu":
            weights = np.log1p(weights)
        return weights
