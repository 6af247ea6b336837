"""The few types every layer shares. This module imports nothing of ours."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, TypeVar

from numpy.typing import NDArray

Tensors: TypeAlias = Mapping[str, NDArray[Any]]
"""Named arrays of one item, without a batch axis."""

Feeds: TypeAlias = Mapping[str, NDArray[Any]]
"""Named arrays of a whole batch, as a session takes and returns them."""


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """Which exact artefact answers."""

    name: str
    version: int
    digest: str
    """Of every file of the version that can change an answer, for the chosen precision."""


@dataclass(frozen=True, slots=True)
class Share:
    """Whose item it is, and how much of a busy model its owner may use."""

    name: str
    weight: float = 1.0
    """Of two owners that both wait, one gets this many times as much as one of weight 1."""


class Item(Protocol):
    """One thing to be answered: a text, an image, a sentence to translate."""

    def fingerprint(self) -> bytes:
        """Return everything in this item that can change its answer."""
        ...


Group: TypeAlias = tuple[str | int | float | None, ...] | None
"""Identifies items that may share a batch, by plain values that can be sent to another process."""


@dataclass(frozen=True, slots=True)
class PreparedItem:
    """One preprocessed item, as the batcher queues it."""

    tensors: Tensors
    lane: str = "default"
    length: int = 1
    """Cost of one row in the lane's unit (tokens, or pixels); a batch pads to its longest."""
    group: Group = None
    """Only works of the same group may share a batch (e.g. the same number of beams)."""


@dataclass(frozen=True, slots=True)
class StoredTable:
    """A constant of a graph that is only looked up in: where it lies in the graph's file."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Of its first byte."""


class DeviceValue(Protocol):
    """A tensor that stayed on the device, good for feeding to a session there."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its shape, without copying it."""
        ...

    def numpy(self) -> NDArray[Any]:
        """Copy it to the host."""
        ...


Feed: TypeAlias = NDArray[Any] | DeviceValue


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a graph says of one of its inputs or outputs."""

    dtype: str
    """As numpy calls it: "float32", "int64", ..."""
    shape: tuple[int | None, ...]
    """None where the size may vary."""


def renamed(inputs: Mapping[str, TensorSpec], names: Mapping[str, str]) -> dict[str, TensorSpec]:
    """Return a graph's inputs by what a family feeds.

    Args:
        inputs: by the graph's own names.
        names: of the graph's inputs, by what the family calls them.
    """
    fed = {graph: family for family, graph in names.items()}
    return {fed.get(name, name): spec for name, spec in inputs.items()}


@dataclass(frozen=True, slots=True)
class TensorSignature:
    """What a model that takes tensors is fed and returns."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
    is_batched: bool
    """Whether the first axis of every tensor holds items that are computed independently."""
    max_output_bytes: int
    """Most bytes of the outputs for one request."""
    metadata: Mapping[str, str]
    """What the exporter wrote into the graph."""


class Session(Protocol):
    """One loaded graph on one device."""

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Return what the graph must be fed, by name."""
        ...

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Return what the graph gives, by name, in its order."""
        ...

    def run(self, feeds: Mapping[str, Feed]) -> Feeds:
        """Run the graph once, all outputs to the host. Blocking: worker threads only."""
        ...

    def run_kept(
        self, feeds: Mapping[str, Feed], host: Collection[str]
    ) -> tuple[Feeds, Mapping[str, DeviceValue]]:
        """Run once; copy the outputs named in `host` to the host and keep the others.

        What a decoder loop feeds back (its key-value cache) never leaves the device.
        """
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """A tensor at an address."""

    owner: object
    """Keeps the memory alive."""
    address: int
    dtype: str
    shape: tuple[int, ...]
    on_host: bool

    @classmethod
    def of(cls, array: NDArray[Any]) -> "Span":
        """Return the span of a contiguous array, which is read and written in place."""
        return cls(array, array.ctypes.data, array.dtype.name, array.shape, True)


class Buffer(Protocol):
    """Memory of a device that outlives a run."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the dimensions, outermost first."""
        ...

    @property
    def on_host(self) -> NDArray[Any] | None:
        """Return the memory as an array, None where the host cannot reach it."""
        ...

    def first(self, rows: int) -> Span:
        """Return its first entries along the first axis, where they are."""
        ...


class BindableSession(Session, Protocol):
    """A session that can run again and again on the same memory."""

    def allocate(self, dtype: str, shape: Sequence[int]) -> Buffer:
        """Reserve memory on the session's device. Its content is undefined."""
        ...

    def bind(
        self, inputs: Mapping[str, Span | DeviceValue], outputs: Mapping[str, Span]
    ) -> Callable[[], None]:
        """Return a function that runs the graph on these spans, whatever is in them by then.

        An output may lie where an input does, if the graph can work in place.
        """
        ...


Sessions: TypeAlias = Mapping[str, Session]
"""The graphs of one instance by session name ("model", "encoder", "decoder", ...)."""

ItemT = TypeVar("ItemT", bound=Item)
AnswerT = TypeVar("AnswerT")
Item_contra = TypeVar("Item_contra", bound=Item, contravariant=True)
Answer_co = TypeVar("Answer_co", covariant=True)


@dataclass(frozen=True, slots=True)
class Lane:
    """One queue of a family; a family with two towers has two."""

    name: str
    lengths: Sequence[int]
    """Row lengths worth timing at warm-up, ascending; the last is the longest allowed."""
    sessions: Sequence[str]
    """The session names this lane runs."""


class Processor(Protocol[Item_contra, Answer_co]):
    """Turns items into tensors and results into answers, without sessions or onnxruntime.

    One instance serves a loaded version on all threads, so it must not change after construction.
    """

    def offload(self, item: Item_contra) -> bool:
        """Tell whether `preprocess` takes so long (over about 0.2 ms) that it needs a thread."""
        ...

    def preprocess(self, item: Item_contra) -> PreparedItem:
        """Turn an item into tensors. Raises InvalidInputError."""
        ...

    def postprocess(self, result: Tensors, item: Item_contra) -> Answer_co:
        """Turn one result into the task's answer. Runs on the event loop: keep it short."""
        ...


class Model(Protocol):
    """Runs batches of prepared items on sessions.

    One instance serves a loaded version on all threads, so it must not change after construction.
    Sessions are arguments because a version may have several instances.
    """

    @property
    def lanes(self) -> Sequence[Lane]:
        """Return its lanes, at least one."""
        ...

    def infer(self, sessions: Sessions, batch: Sequence[PreparedItem]) -> Sequence[Tensors]:
        """Collate, run the sessions and split: one result per item, in order.

        Runs on a worker thread, so work on whole batches (softmax, NMS) belongs here. A row's
        result must not depend on the other rows. All items have the same lane and group.

        Raises:
            InferenceError: a graph's inputs or outputs are not the family's.
        """
        ...

    def probe(self, lane: str, length: int) -> PreparedItem:
        """Return an item of exactly this length, for warm-up and timing."""
        ...
