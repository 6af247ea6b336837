"""Memory on a device that runs read and write in place."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from service.runtime.devices import Device
from service.types import Span


class DeviceBuffer:
    """A preallocated tensor. Satisfies `service.types.Buffer`."""

    def __init__(self, device: Device, dtype: str, shape: Sequence[int]) -> None:
        """Reserve the memory; the system gives it page by page as it is written."""
        self._value = ort.OrtValue.ortvalue_from_shape_and_type(
            list(shape), np.dtype(dtype).type, device.kind, device.index
        )
        self._dtype, self._on_host = dtype, device.kind == "cpu"
        self.shape = tuple(shape)
        self.on_host = self._as_array() if self._on_host else None

    def __repr__(self) -> str:
        return f"<DeviceBuffer {self._dtype} {self.shape}>"

    def first(self, rows: int) -> Span:
        """Return its first entries along the first axis, where they are."""
        shape = (rows, *self.shape[1:])
        return Span(self._value, self._value.data_ptr(), self._dtype, shape, self._on_host)

    def _as_array(self) -> NDArray[Any]:
        """Return the memory itself; it lives as long as the buffer does."""
        dtype, size = np.dtype(self._dtype), int(np.prod(self.shape, dtype=np.int64))
        memory = (ctypes.c_byte * (size * dtype.itemsize)).from_address(self._value.data_ptr())
        array: NDArray[Any] = np.ctypeslib.as_array(memory).view(dtype).reshape(self.shape)
        return array
