"""Memory on a device that runs read and write in place."""

import math
import mmap
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime as ort

from service.runtime.devices import Device
from service.types import Span


class DeviceBuffer:
    """A preallocated tensor. Satisfies `service.types.Buffer`."""

    def __init__(self, device: Device, dtype: str, shape: Sequence[int]) -> None:
        """Reserve the memory; the system gives it page by page as it is written."""
        self._dtype, self._on_host = dtype, device.kind == "cpu"
        if self._on_host:
            self._value = _pages(np.dtype(dtype), shape)
        else:
            self._value = ort.OrtValue.ortvalue_from_shape_and_type(
                list(shape), np.dtype(dtype).type, device.kind, device.index
            )
        self.shape = tuple(shape)

    def __repr__(self) -> str:
        return f"<DeviceBuffer {self._dtype} {self.shape}>"

    def first(self, rows: int) -> Span:
        """Return its first entries along the first axis, where they are."""
        shape = (rows, *self.shape[1:])
        return Span(self._value, self._value.data_ptr(), self._dtype, shape, self._on_host)


def _pages(dtype: np.dtype[Any], shape: Sequence[int]) -> ort.OrtValue:
    """Return a tensor in pages of its own, which go back to the system when it ends.

    What malloc gives is part of a heap that has been used before, so that all of it is resident
    at once, and is not given back when a larger buffer takes its place.
    """
    size = max(1, math.prod(shape) * dtype.itemsize)
    if sys.platform == "win32":
        pages = mmap.mmap(-1, size)
    else:  # shared pages, which are the default, take longer to get
        pages = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    array = np.frombuffer(pages, dtype, math.prod(shape)).reshape(shape)
    return ort.OrtValue.ortvalue_from_numpy(array)  # which refers to the array, and it to them
