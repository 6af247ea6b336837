"""Fields of an ONNX graph, as bytes: nodes and small constants."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.repository.onnx_file.reader import INITIALIZER, NODE, OPSET
from service.transforms.protobuf import field_header, varint_field

MICROSOFT: Final = "com.microsoft"
FLOAT: Final = 1
"""TensorProto.DataType."""

_TYPES: Final[Mapping[str, int]] = {"float32": FLOAT, "uint8": 2, "int64": 7}
_INT, _INTS = 2, 7  # AttributeProto.AttributeType
_MODULUS = 1 << 64


def node(
    operator: str,
    inputs: Sequence[bytes],
    output: bytes,
    domain: str = "",
    attributes: Mapping[str, int | Sequence[int]] | None = None,
) -> bytes:
    """Return a node of a graph. An empty input is one that is left out."""
    made = b"".join(_field(1, name) for name in inputs) + _field(2, output)
    made += _text(4, operator)
    made += b"".join(_field(5, _attribute(*one)) for one in (attributes or {}).items())
    return _field(NODE, made + (_text(7, domain) if domain else b""))


def constant(name: bytes, values: NDArray[np.generic]) -> bytes:
    """Return a constant of a graph: float32, uint8 or int64."""
    tensor = b"".join(varint_field(1, size) for size in values.shape)
    tensor += varint_field(2, _TYPES[values.dtype.name])
    return _field(INITIALIZER, tensor + _field(8, name) + _field(9, values.tobytes()))


def operator_set(domain: str, version: int) -> bytes:
    """Return the field of a model that imports a set of operators."""
    return _field(OPSET, _text(1, domain) + varint_field(2, version))


def _attribute(name: str, value: int | Sequence[int]) -> bytes:
    if isinstance(value, int):
        return _text(1, name) + varint_field(3, value % _MODULUS) + varint_field(20, _INT)
    numbers = b"".join(varint_field(8, one % _MODULUS) for one in value)
    return _text(1, name) + numbers + varint_field(20, _INTS)


def _field(number: int, value: bytes) -> bytes:
    return field_header(number, len(value)) + value


def _text(number: int, value: str) -> bytes:
    return _field(number, value.encode())
