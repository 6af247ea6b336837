"""What a family is to the rest of the service: a processor, a model and their traits."""

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Generic, Protocol, TypeVar

from typing_extensions import override

from service.engine.inflight.scheduler import InFlight
from service.tasks import Ability, ObjectPart, Task
from service.transforms.language.segmentation import Document
from service.transforms.language.text import TextTokenizer
from service.types import (
    AnswerT,
    Feeds,
    ItemT,
    Lane,
    Model,
    PreparedItem,
    Processor,
    Session,
    Sessions,
    TensorSignature,
    TensorSpec,
)

LANE: Final = "default"
"""The lane of a family whose items all share one."""

SESSION: Final = "model"
"""The session of a family with one graph."""

ParametersT = TypeVar("ParametersT")


class GraphInput(Protocol):
    """Prepared items as the feeds of one graph: texts or images."""

    @property
    def lengths(self) -> Sequence[int]:
        """Return the lengths worth timing at warm-up, ascending."""
        ...

    def feeds_for(self, session: Session, batch: Sequence[PreparedItem]) -> Feeds:
        """Return the feeds that this graph takes. Raises InferenceError."""
        ...

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return a prepared item of exactly this length."""
        ...


InputT = TypeVar("InputT", bound=GraphInput)


@dataclass(frozen=True, slots=True, eq=False)
class SingleGraphModel(Model, Generic[InputT]):
    """A model of one graph and one lane; a family adds `infer`."""

    input: InputT

    @property
    @override
    def lanes(self) -> Sequence[Lane]:
        return [Lane(LANE, self.input.lengths, [SESSION])]

    @override
    def probe(self, lane: str, length: int) -> PreparedItem:
        return self.input.probe(lane, length)


@dataclass(frozen=True, slots=True)
class CosineScores:
    """How an embedder scores labels that a request gives: by the cosines of vectors."""

    scale: float
    """Factor of a cosine, which makes a logit of it."""
    bias: float = 0.0
    """Added to the logit of an image and a label."""
    is_independent: bool = False
    """Whether an image's labels are scored one by one, by a sigmoid (SigLIP)."""
    template: str = "{}"
    """What to put around a label for an image; it contains {}."""


@dataclass(frozen=True, slots=True)
class EntailmentScores:
    """How a classifier of pairs scores labels that a request gives: each is a hypothesis."""

    entailment: str
    """Its label of a hypothesis that follows from the text."""
    contradiction: str
    """Its label of a hypothesis that contradicts the text."""
    template: str
    """What makes a hypothesis of a label; it contains {}."""


@dataclass(frozen=True, slots=True)
class Traits(Generic[ItemT, AnswerT]):
    """What a family can do besides what every family does. A field left out: it cannot."""

    # Of the processor
    tokenizer: TextTokenizer | None = None
    """Of a family that reads texts."""
    max_tokens: int | None = None
    """Tokens that the model reads of a text; a longer one is cut."""
    labels: tuple[str, ...] = ()
    """Names of a classifier's scores, in the graph's order; they may repeat."""
    pooling: str = "none"
    """How a text's vector comes from its tokens; "none": the graph gives the vector."""
    prompts: Mapping[str, str] = field(default_factory=dict)
    """What an item may ask to put before its text, by name."""
    lane_of: Callable[[ItemT], str] | None = None
    """Return the lane of an item before it is preprocessed; required with several lanes."""
    split: Callable[[ItemT, bool], Document | None] | None = None
    """Return the item's text in segments that fit the model; None if it is a single one. The flag
    asks for sentences. Raises InvalidInputError."""
    plan: Callable[[ItemT], Generator[ItemT, AnswerT, AnswerT] | None] | None = None
    """Return a generator that yields items to run, receives their answers and returns the answer
    to the given item; None if the item runs as it is."""
    languages: tuple[Sequence[str], Sequence[str]] | None = None
    """Source and target languages."""
    label_scores: CosineScores | EntailmentScores | None = None
    """How answers become scores of labels that a request gives."""
    finds: frozenset[ObjectPart] = frozenset()
    """What a detector finds of an object besides its box."""

    # Of the model
    head_problem: Callable[[Mapping[str, Mapping[str, TensorSpec]]], str | None] | None = None
    """Compare the graphs' declared outputs, by session and name, with the labels. Return what
    does not fit, or None."""
    try_head: Callable[[Sessions], str | None] | None = None
    """Run the graph on synthetic images. Return what does not fit, or None."""
    signature: TensorSignature | None = None
    """For a model that takes tensors as they are."""
    settle: Callable[[Sessions], "Opened[ItemT, AnswerT]"] | None = None
    """Run the graph on synthetic tensors and return the family as it fits the graph. Called once,
    before any other run. Raises InferenceError if the graph does not fit."""
    parts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """For a graph that holds several lanes: the output that each lane's session computes, by the
    session's name. A graph that cannot be cut is opened whole instead."""
    in_flight: InFlight | None = None
    """For a model whose items join and leave a running batch."""
    in_place: frozenset[str] = frozenset()
    """Sessions that write their outputs over their inputs, so they must be `BindableSession`s."""


@dataclass(frozen=True, slots=True)
class Opened(Generic[ItemT, AnswerT]):
    """A family opened for one version. The processor needs neither sessions nor onnxruntime."""

    processor: Processor[ItemT, AnswerT]
    model: Model
    traits: Traits[ItemT, AnswerT] = field(default_factory=Traits)


@dataclass(frozen=True, slots=True)
class FamilyEntry(Generic[ParametersT]):
    """One row of the table of families."""

    task: Task
    modalities: frozenset[str]
    """"text", "image" or both, or "tensor": what every model of the family takes."""
    parameters: type[ParametersT]
    """A dataclass: its fields are the keys of the manifest's `[parameters]`."""
    open: Callable[[Path, ParametersT], Opened[Any, Any]]
    """Read what the family needs besides its graphs (tokenizers) from a version's folder.

    Raises:
        ModelLoadError: a file is missing or broken.
        ValueError: the parameters contradict one another or the files.
    """
    composed: Callable[[ParametersT], frozenset[Ability]] = lambda _: frozenset()
    """Return what requests can be composed of the answers of a model with these parameters."""


def check_labels(labels: Sequence[str]) -> None:
    """Check that there are labels. Raises ValueError.

    Labels may repeat, as they do in well-known data sets: ImageNet has two cranes, and COCO eleven
    that are "N/A". An answer then names both of them alike.
    """
    if not labels:
        raise ValueError("labels must be one or more names")


def check_template(template: str) -> None:
    """Check that a template has a place for a label. Raises ValueError."""
    if "{}" not in template:
        raise ValueError("hypothesis_template must contain {}, where the label goes")
