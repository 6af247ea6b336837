"""Tensors to feed to a graph, and what it returned."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from service.tasks.common import Part, fingerprint


@dataclass(frozen=True, slots=True, eq=False)
class InferItem:
    """Tensors to feed to a graph, by input. Strings are arrays of `bytes` (dtype object)."""

    modality: ClassVar = "tensor"
    tensors: Mapping[str, NDArray[Any]]
    """Without the batch axis, if the model is batched."""

    def fingerprint(self) -> bytes:
        """Return every tensor with its name, type and shape."""
        return fingerprint(
            *(part for name in sorted(self.tensors) for part in _parts(name, self.tensors[name]))
        )


def _parts(name: str, tensor: NDArray[Any]) -> list[Part]:
    head = [name, tensor.dtype.str, tensor.ndim, *tensor.shape]
    return head + (tensor.ravel().tolist() if tensor.dtype.hasobject else [tensor.tobytes()])


@dataclass(frozen=True, slots=True, eq=False)
class Inference:
    """What a graph returned, by output, in the graph's order."""

    outputs: Mapping[str, NDArray[Any]]
    """As the tensors of an `InferItem`."""
