"""Tensors on a device: those that a run keeps there, and buffers that runs read and write."""

import math
import mmap
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.types import Span


@dataclass(frozen=True, slots=True)
class OnDevice:
    """A tensor that stays on the session's device. Satisfies `service.types.DeviceValue`."""

    value: ort.OrtValue

    @property
    def shape(self) -> tuple[int, ...]:
        """Return its shape, without copying it."""
        return tuple(self.value.shape())

    def numpy(self) -> NDArray[Any]:
        """Copy it to the host."""
        array: NDArray[Any] = self.value.numpy()
        return array


class ProviderMemory(Protocol):
    """What sessions and buffers use of a row of `service.runtime.providers.PROVIDERS`."""

    @property
    def name(self) -> str:
        """Return the provider's name in ONNX Runtime."""
        ...

    @property
    def memory(self) -> str:
        """Return ONNX Runtime's name of the memory that its tensors live in."""
        ...

    @property
    def is_on_host(self) -> bool:
        """Return whether that is the host's memory."""
        ...


class SessionDevice(Protocol):
    """What sessions and buffers use of a `service.runtime.providers.Device`."""

    @property
    def index(self) -> int:
        """Return its number among the devices of its provider."""
        ...

    @property
    def provider(self) -> ProviderMemory:
        """Return the record of its execution provider."""
        ...

    @property
    def providers(self) -> Sequence[tuple[str, Mapping[str, str | int]]]:
        """Return ONNX Runtime's names of providers in order of preference, with their options."""
        ...


class DeviceBuffer:
    """A tensor at a fixed address, for binding. Satisfies `service.types.Buffer`."""

    on_host: NDArray[Any] | None = None
    """The memory, if it is the host's."""

    def __init__(self, device: SessionDevice, dtype: str, shape: Sequence[int]) -> None:
        """Reserve the memory. The system commits a page when it is first written."""
        self._dtype, self.shape = dtype, tuple(shape)
        if device.provider.is_on_host:
            self.on_host = _pages(np.dtype(dtype), shape)
            # The tensor refers to the array, and that to its pages.
            self._value = ort.OrtValue.ortvalue_from_numpy(self.on_host)
        else:
            self._value = ort.OrtValue.ortvalue_from_shape_and_type(
                list(shape), np.dtype(dtype).type, device.provider.memory, device.index
            )

    def __repr__(self) -> str:
        return f"<DeviceBuffer {self._dtype} {self.shape}>"

    def first(self, rows: int) -> Span:
        """Return its first entries along the first axis, where they are."""
        shape = (rows, *self.shape[1:])
        on_host = self.on_host is not None
        return Span(self._value, self._value.data_ptr(), self._dtype, shape, on_host)


def _pages(dtype: np.dtype[Any], shape: Sequence[int]) -> NDArray[Any]:
    """Return an array in pages of its own, which go back to the system when it ends.

    What malloc gives is part of a heap that has been used before, so that all of it is resident
    at once, and is not given back when a larger buffer takes its place.
    """
    size = max(1, math.prod(shape) * dtype.itemsize)
    if sys.platform == "win32":
        pages = mmap.mmap(-1, size)
    else:  # shared pages, which are the default, take longer to get
        pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    return np.frombuffer(pages, dtype, math.prod(shape)).reshape(shape)
