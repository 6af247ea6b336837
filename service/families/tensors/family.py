"""Any graph: tensors in, tensors out. Nothing in them is interpreted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from service.errors import DeviceMemoryError, InferenceError
from service.families.family import SESSION, Opened, Traits
from service.families.tensors.model import TensorsModel
from service.families.tensors.processor import TensorsProcessor
from service.families.tensors.rows import is_independent
from service.tasks import Inference, InferItem
from service.types import Session, Sessions, Tensors, TensorSignature, TensorSpec

_DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64", "string"),
)
_SIZES = (16, 1, 32, 64, 224, 256, 512)
"""Sizes to try for the axes that vary, until the graph runs."""
_SEEDS = (0, 1)


@dataclass(frozen=True, slots=True)
class TensorShape:
    """One input or output of the graph."""

    dtype: str
    """As numpy calls it, or `string`."""
    shape: tuple[int, ...]
    """-1 for an axis that varies; an empty shape also stands for an unknown one."""

    @property
    def spec(self) -> TensorSpec:
        """Return it as sessions describe it."""
        return TensorSpec(self.dtype, tuple(n if n > 0 else None for n in self.shape))


@dataclass(frozen=True, slots=True)
class TensorsParameters:
    """The manifest's `[parameters]`; inputs and outputs are inferred from the graph."""

    inputs: Mapping[str, TensorShape]
    """Inputs of the graph."""
    outputs: Mapping[str, TensorShape]
    """Outputs of the graph."""
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Metadata of the graph, shown to clients."""
    batched: bool | None = None
    """Whether the first axis holds independent items, which are then batched with those of other
    requests. Unset: true if the first axis of every input and output varies, and rows give the
    same outputs alone and together."""
    example: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shape of an input to time batches with, without the batch axis; needed where the axes that
    vary only fit one another in certain sizes."""
    max_output_bytes: int = 64 * 1024 * 1024
    """Most bytes of the outputs for one request."""

    def __post_init__(self) -> None:
        if not self.inputs or not self.outputs:
            raise ValueError("inputs and outputs must name at least one tensor each")
        if unknown := sorted(self.example.keys() - self.inputs.keys()):
            raise ValueError(f"example names {', '.join(unknown)}, which inputs does not")
        if self.max_output_bytes < 1:
            raise ValueError("max_output_bytes must be positive")


def open_tensors(folder: Path, parameters: TensorsParameters) -> Opened[InferItem, Inference]:
    """Use nothing of the folder."""
    inputs = {name: one.spec for name, one in parameters.inputs.items()}
    outputs = {name: one.spec for name, one in parameters.outputs.items()}
    is_batched = _has_batch_axis(inputs, outputs) and parameters.batched is not False
    signature = TensorSignature(
        inputs, outputs, is_batched, parameters.max_output_bytes, parameters.metadata
    )
    return _opened(parameters, signature, _SIZES[0])


def _opened(
    parameters: TensorsParameters, signature: TensorSignature, size: int
) -> Opened[InferItem, Inference]:
    model = _model(parameters, signature, size)
    settle = partial(_settle, parameters)
    return Opened(model.processor, model, Traits(signature=signature, settle=settle))


def _model(parameters: TensorsParameters, signature: TensorSignature, size: int) -> TensorsModel:
    return TensorsModel(signature, parameters.example, size, TensorsProcessor(signature))


def _has_batch_axis(inputs: Mapping[str, TensorSpec], outputs: Mapping[str, TensorSpec]) -> bool:
    specs = [*inputs.values(), *outputs.values()]
    return all(spec.shape and spec.shape[0] is None for spec in specs)


def _settle(parameters: TensorsParameters, sessions: Sessions) -> Opened[InferItem, Inference]:
    """Find a size at which the graph runs, and whether its rows are independent.

    Raises:
        InferenceError: the graph has inputs or outputs that cannot be served, or runs at none of
            the sizes.
    """
    session = sessions[SESSION]
    _check_types(session)
    inputs, outputs = session.inputs, session.outputs
    can_batch = _has_batch_axis(inputs, outputs)
    if parameters.batched and not can_batch:
        raise InferenceError("batched is true, but the first axis of some tensor does not vary")
    is_batched = can_batch and parameters.batched is not False
    signature = TensorSignature(
        inputs, outputs, is_batched, parameters.max_output_bytes, parameters.metadata
    )
    size, alone = _first_that_runs(parameters, signature, sessions)
    is_sure = not is_batched or parameters.batched is True
    if not is_sure:
        model = _model(parameters, signature, size)
        items = [model.synthetic(seed) for seed in _SEEDS]
        is_batched = is_independent(model, sessions, items, alone)
        signature = replace(signature, is_batched=is_batched)
    return _opened(parameters, signature, size)


def _check_types(session: Session) -> None:
    for kind, specs in (("input", session.inputs), ("output", session.outputs)):
        for name, spec in specs.items():
            if spec.dtype not in _DTYPES:
                raise InferenceError(
                    f"{kind} {name!r} is {spec.dtype}, which is not served; these are: "
                    f"{', '.join(_DTYPES)}"
                )


def _first_that_runs(
    parameters: TensorsParameters, signature: TensorSignature, sessions: Sessions
) -> tuple[int, Sequence[Tensors]]:
    """Return a size of the axes that vary, and what the graph gives for two synthetic items."""
    problem: str | None = None
    for size in _SIZES:
        model = _model(parameters, signature, size)
        try:
            alone = [model.infer(sessions, [model.synthetic(seed)])[0] for seed in _SEEDS]
        except (InferenceError, DeviceMemoryError) as error:
            problem = problem or str(error)
        else:
            return size, alone
    raise InferenceError(
        f"the graph runs at none of the sizes {', '.join(map(str, _SIZES))} of the axes that vary: "
        f"give the shape of each input as example in [parameters] ({problem})"
    )
