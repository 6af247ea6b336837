"""Reads the weights that PyTorch saved before its version 1.6, without PyTorch.

Such a file is a row of pickles (a magic number, a protocol, facts of the system, the weights, the
keys of their storages), then the bytes of each storage after its length. Only names that
weights need are resolved, so a file cannot run code.
"""

import pickle
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

MAGIC = 0x1950A86A20F9469CFC6C
_TYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}
Array = NDArray[Any]


def read_legacy_weights(path: Path) -> Mapping[str, Array]:
    """Return the arrays of a state dictionary by name.

    Raises:
        ValueError: the file is not of this format, or holds something other than weights.
    """
    with path.open("rb") as file:
        if _Unpickler(file).load() != MAGIC:
            raise ValueError(f"{path.name} was not saved by PyTorch 1.5 or older")
        _Unpickler(file).load()
        _Unpickler(file).load()
        reader = _Unpickler(file)
        views: Mapping[str, _View] = reader.load()
        for key in _Unpickler(file).load():
            count = int(np.frombuffer(file.read(8), "<i8")[0])
            kind = reader.storages[key]
            values = np.frombuffer(file.read(count * kind.itemsize), kind)
            reader.arrays[key] = values
        return {name: view.of(reader.arrays) for name, view in views.items()}


class _View:
    """A tensor: the elements of a storage at an offset and some strides."""

    def __init__(
        self, key: str, offset: int, shape: Sequence[int], strides: Sequence[int], *_: object
    ) -> None:
        self._key, self._offset = key, offset
        self._shape, self._strides = tuple(shape), strides

    def of(self, arrays: Mapping[str, Array]) -> Array:
        """Return its values as an array of its own."""
        places = np.full(self._shape, self._offset)
        for axis, stride in zip(np.indices(self._shape), self._strides, strict=True):
            places += axis * stride
        return arrays[self._key][places]  # an index beyond the storage is an IndexError


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: IO[bytes]) -> None:
        super().__init__(file)
        self.storages: dict[str, np.dtype[Any]] = {}
        self.arrays: dict[str, Array] = {}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _View
        if module == "torch" and name in _TYPES:
            return _TYPES[name]
        raise ValueError(f"a file of weights does not hold {module}.{name}")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, *_ = pid
        self.storages[key] = kind
        return str(key)
