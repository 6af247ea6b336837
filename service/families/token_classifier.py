"""Token classifiers: labels for the tokens of a text, joined to spans such as names."""

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, get_args

import numpy as np
from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InferenceError
from service.families.family import Opened, Traits, check_labels
from service.families.text_input import TextInput, TextParameters, is_long, one_output
from service.tasks import Aggregate, TaggedSpan, Tagging, TagItem
from service.transforms.language.tagging import TagScheme, without_overlaps
from service.transforms.language.text import valid_text
from service.transforms.language.token_windows import TokenWindow, WindowTokenizer
from service.types import Lane, Model, PreparedItem, Processor, Sessions, Tensors, TensorSpec

_LANE = "default"
_SESSION = "model"
_RANK = 3
_AGGREGATES: Final[tuple[Aggregate, ...]] = get_args(Aggregate)
_SHARED = 4
"""Neighbouring windows of a long text share this part of their tokens (a quarter)."""


@dataclass(frozen=True, kw_only=True)
class TokenClassifierParameters(TextParameters):
    """The manifest's `[parameters]`."""

    labels: tuple[str, ...]
    """Names of the scores, in the graph's order. B- begins a span, I- continues it."""
    stride: int | None = None
    """Tokens that two neighbouring windows of a long text share; None is a quarter of a window."""

    def __post_init__(self) -> None:
        check_labels(self.labels)


def open_token_classifier(
    folder: Path, parameters: TokenClassifierParameters
) -> Opened[TagItem, Tagging]:
    """Read the tokenizer. Raises ModelLoadError, ValueError."""
    texts = TextInput.open(folder, parameters)
    room = texts.max_length - texts.tokenizer.special_tokens
    stride = room // _SHARED if parameters.stride is None else parameters.stride
    if not 0 <= stride < room:
        raise ValueError(f"stride must be less than the {room} tokens of a window")
    scheme = TagScheme.of(parameters.labels)
    processor = TokenClassifierProcessor(
        parameters.labels, scheme, WindowTokenizer.of(texts.tokenizer), texts, stride
    )
    model = TokenClassifierModel(parameters.labels, scheme, texts)
    traits: Traits[TagItem, Tagging] = Traits(
        tokenizer=texts.tokenizer,
        labels=parameters.labels,
        plan=processor.plan,
        head_problem=model.head_problem,
    )
    return Opened(processor, model, traits)


@dataclass(frozen=True, slots=True, eq=False)
class TokenClassifierProcessor(Processor[TagItem, Tagging]):
    """Tokenizes texts, window by window, and names spans."""

    labels: tuple[str, ...]
    scheme: TagScheme
    windows: WindowTokenizer
    texts: TextInput
    stride: int

    def plan(self, item: TagItem) -> Generator[TagItem, Tagging, Tagging] | None:
        """Return what answers a text window by window; None for a window of it."""
        return self._all_windows(item) if item.window is None else None

    @staticmethod
    def _all_windows(item: TagItem) -> Generator[TagItem, Tagging, Tagging]:
        first = yield replace(item, window=0)
        if first.windows == 1:
            return first
        found = list(first.spans)
        for place in range(1, first.windows):
            found += (yield replace(item, window=place)).spans
        return Tagging(without_overlaps(found), first.windows)

    @override
    def offload(self, item: TagItem) -> bool:
        return is_long(item.text)

    @override
    def preprocess(self, item: TagItem) -> PreparedItem:
        stride = self.stride if item.stride is None else item.stride
        windows = self.windows.windows(item.text, self.texts.max_length, stride)
        window = windows[item.window or 0]
        tensors = {
            "input_ids": window.ids,
            "token_type_ids": window.types,
            "is_special": window.is_special,
            "starts": window.starts,
            "ends": window.ends,
            "is_subword": window.is_subword,
            "windows": np.array(len(windows)),
            "aggregate": np.array(_AGGREGATES.index(item.aggregate)),
        }
        return PreparedItem(tensors, _LANE, self.texts.row_length(window.ids))

    @override
    def postprocess(self, result: Tensors, item: TagItem) -> Tagging:
        text, names = valid_text(item.text), self.scheme.kind_names
        if item.aggregate == "none":
            names = self.labels
        columns = (result[name].tolist() for name in ("labels", "scores", "starts", "ends"))
        return Tagging(
            tuple(
                TaggedSpan(names[label], score, start, end, text[start:end])
                for label, score, start, end in zip(*columns, strict=True)
                if names[label] not in item.ignored
            ),
            int(result["windows"]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class TokenClassifierModel(Model):
    """Graph `model`: input_ids, attention_mask -> logits [B, T, labels]."""

    labels: tuple[str, ...]
    scheme: TagScheme
    texts: TextInput

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [Lane(_LANE, self.texts.lengths, [_SESSION])]

    @override
    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        session = sessions[_SESSION]
        logits = one_output(session.run(self.texts.feeds_for(session, batch)), "logits")
        if logits.ndim != _RANK or logits.shape[-1] != len(self.labels):
            raise InferenceError(
                f"the graph gives scores of shape {logits.shape} for {len(self.labels)} labels"
            )
        return [self._spans(row, one.tensors) for row, one in zip(logits, batch, strict=True)]

    def _spans(self, logits: NDArray[np.floating], tensors: Tensors) -> Tensors:
        window = TokenWindow(
            tensors["input_ids"],
            tensors["token_type_ids"],
            tensors["is_special"],
            tensors["starts"],
            tensors["ends"],
            tensors["is_subword"],
        )
        aggregate = _AGGREGATES[int(tensors["aggregate"])]
        spans = self.scheme.spans(_softmax(logits[: len(window.ids)]), window, aggregate)
        return {
            "labels": spans.labels,
            "scores": spans.scores,
            "starts": spans.starts,
            "ends": spans.ends,
            "windows": tensors["windows"],
        }

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        prepared = self.texts.probe(lane, length)
        ids, places = prepared.tensors["input_ids"], np.arange(length)
        nothing = np.zeros(length, np.bool_)
        tensors = {
            "token_type_ids": np.zeros_like(ids),
            **prepared.tensors,
            "is_special": nothing,
            "starts": places,
            "ends": places + 1,
            "is_subword": nothing,
            "windows": np.array(1),
            "aggregate": np.array(_AGGREGATES.index("none")),
        }
        return replace(prepared, tensors=tensors)

    def head_problem(self, outputs: Mapping[str, Mapping[str, TensorSpec]]) -> str | None:
        """Compare the number of scores with the labels."""
        given = outputs[_SESSION]
        if "logits" not in given and len(given) > 1:
            return f"the graph gives {', '.join(given)}, but no 'logits'"
        shape = given.get("logits", next(iter(given.values()))).shape
        if shape and len(shape) != _RANK:
            return f"the graph gives scores of {len(shape)} axes instead of {_RANK}"
        if shape and shape[-1] not in (None, len(self.labels)):
            return f"the graph gives {shape[-1]} scores for {len(self.labels)} labels"
        return None


def _softmax(logits: NDArray[np.floating]) -> NDArray[np.float32]:
    floats = logits.astype(np.float32)
    if not np.isfinite(floats).all():
        raise InferenceError("the graph gives a score that is not a finite number")
    exponentials = np.exp(floats - floats.max(axis=-1, keepdims=True))
    scores: NDArray[np.float32] = exponentials / exponentials.sum(axis=-1, keepdims=True)
    return scores
