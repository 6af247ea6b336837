"""Compares tensors with the inputs of a graph."""

from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from typing_extensions import override

from service.errors import InvalidInputError, LimitExceededError
from service.families.family import LANE
from service.tasks import Inference, InferItem
from service.transforms.strings import byte_size, pack, unpack
from service.types import Group, PreparedItem, Processor, Tensors, TensorSignature, TensorSpec

_MANY_STRINGS = 1000
_LONGEST_ECHO, _MOST_SHOWN = 100, 4


@dataclass(frozen=True, slots=True, eq=False)
class TensorsProcessor(Processor[InferItem, Inference]):
    """Compares tensors with the graph's inputs."""

    signature: TensorSignature

    @override
    def offload(self, item: InferItem) -> bool:
        return any(t.dtype.hasobject and t.size > _MANY_STRINGS for t in item.tensors.values())

    @override
    def preprocess(self, item: InferItem) -> PreparedItem:
        inputs, tensors = self.signature.inputs, item.tensors
        if not tensors:
            raise InvalidInputError("the item is empty: it has no tensors")
        if tensors.keys() != inputs.keys():
            raise InvalidInputError(_misnamed(tensors.keys(), inputs.keys()))
        packed: dict[str, NDArray[Any]] = {}
        for name, spec in inputs.items():
            self._check(name, tensors[name], spec)
            packed.update(pack(name, tensors[name]))
        count = sum(tensor.size for tensor in tensors.values())
        # Rounded up, because the curve remembers every length that it was asked for.
        length = 1 << max(0, count - 1).bit_length()
        return PreparedItem(packed, LANE, length, self._group(tensors))

    @override
    def postprocess(self, result: Tensors, item: InferItem) -> Inference:
        names = self.signature.outputs
        size = sum(byte_size(name, result) for name in names)
        check_output_size(size, self.signature.max_output_bytes)
        # Copies: views would keep the whole batch alive in the cache.
        return Inference({name: unpack(name, result) for name in names})

    def _check(self, name: str, tensor: NDArray[Any], spec: TensorSpec) -> None:
        """Raise InvalidInputError if a tensor does not fit an input of the graph."""
        dtype = "string" if tensor.dtype.hasobject else tensor.dtype.name
        if dtype != spec.dtype:
            raise InvalidInputError(f"input {name!r} must be {spec.dtype}, not {dtype}")
        batch: tuple[int | None, ...] = (None,) if self.signature.is_batched else ()
        shape = (*batch, *tensor.shape)
        if spec.shape and not _fits(shape, spec.shape):
            raise InvalidInputError(
                f"input {name!r} must have shape {shown(spec.shape)}, not {shown(shape)}"
            )
        if dtype == "string":
            _check_utf8(name, tensor)

    def _group(self, tensors: Tensors) -> Group:
        """Return the shapes: only items of equal shapes can share a batch."""
        inputs = self.signature.inputs
        return tuple(size for name in inputs for size in (*tensors[name].shape, None))


def check_output_size(size: int, most: int) -> None:
    """Raise LimitExceededError if outputs of `size` bytes are over the limit of a model."""
    if size > most:
        raise LimitExceededError(
            f"the outputs have {size} bytes; max_output_bytes of this model allows {most}"
        )


def _fits(shape: Sequence[int | None], taken: Sequence[int | None]) -> bool:
    return len(shape) == len(taken) and all(
        want in (None, size) for want, size in zip(taken, shape, strict=True)
    )


def _check_utf8(name: str, tensor: NDArray[Any]) -> None:
    try:
        for string in tensor.ravel().tolist():
            string.decode()
    except UnicodeDecodeError:
        raise InvalidInputError(f"input {name!r} holds a string that is not UTF-8") from None


def _misnamed(given: Set[str], wanted: Set[str]) -> str:
    parts = [f"input {name!r} is missing" for name in wanted if name not in given]
    parts += [f"there is no input {name[:_LONGEST_ECHO]!r}" for name in given if name not in wanted]
    return f"{'; '.join(parts[:_MOST_SHOWN])}: the inputs are {', '.join(wanted)}"


def shown(shape: Sequence[int | None]) -> str:
    """Return a shape as clients write it, with -1 for an axis that varies."""
    return f"[{', '.join(str(-1 if size is None else size) for size in shape)}]"
