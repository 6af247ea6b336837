"""Dynamic int8 with one scale for each row, in place of one scale for the whole batch.

`DynamicQuantizeLinear` takes its scale over all rows, so an answer depends on the other items of a
batch. What `quantize_dynamic` of ONNX Runtime writes around it is replaced here, node by node:

    DynamicQuantizeLinear -> MatMulInteger -> Cast -> Mul by (Mul of both scales)

becomes rows q of uint8 with a scale for each row, `MatMulIntegerToFloat` of them and the file's
weights, and a `Mul` by the rows' scales. So do the forms into which ONNX Runtime fuses these nodes,
`DynamicQuantizeMatMul` and `MatMulIntegerToFloat`. Weights stay as they are.

A row x is `scale * (q - 128)`. After an activation function, whose values are hardly negative, that
would waste a bit; there x is `low + scale * q`, and

    x W = scale * (q W) + low * (sum of each column of W)

whose sums ONNX Runtime computes once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from service.repository.onnx_file.analysis import BATCH_WIDE, operators
from service.repository.onnx_file.cut import GraphPart
from service.repository.onnx_file.reader import GRAPH, INITIALIZER, OUTPUT, mapped, read_mapped
from service.repository.onnx_file.records import Node, OnnxFile
from service.repository.onnx_file.writer import FLOAT, MICROSOFT, constant, node, operator_set
from service.transforms.protobuf import Bytes, field_header

_OLDEST_OPSET, _AXES_ARE_INPUT = 13, 18

_ONE, _NOTHING, _LEAST, _SIGNED_SHARE, _SHARE, _MIDDLE, _FIRST, _COLUMN, _LAST = (
    b"quartet_rows/" + name
    for name in b"one nothing least signed_share share middle first column last".split()
)
_CONSTANTS: Final[Mapping[bytes, NDArray[np.generic]]] = {
    _ONE: np.array(1, np.float32),
    _NOTHING: np.array(0, np.float32),
    _LEAST: np.array(1e-9, np.float32),
    _SIGNED_SHARE: np.array(1 / 127, np.float32),
    _SHARE: np.array(1 / 255, np.float32),
    _MIDDLE: np.array(128, np.uint8),
    _FIRST: np.array(0, np.uint8),
    _COLUMN: np.array([0], np.int64),
    _LAST: np.array([-1], np.int64),
}

_ACTIVATIONS = frozenset(
    {"BiasGelu", "Clip", "Elu", "Erf", "FastGelu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu"}
    | {"Mish", "QuickGelu", "Relu", "Selu", "Sigmoid", "Softmax", "Softplus", "Swish", "Tanh"}
)
_ELEMENTWISE = frozenset({"Add", "Cast", "Div", "Dropout", "Identity", "Mul", "Reshape", "Squeeze"})
_MOST_STEPS = 8
"""Nodes from an activation function, which may be spelled out, to the product after it."""


def can_scale_rows(onnx: OnnxFile) -> bool:
    """Tell whether all scales over whole batches are in a form that `RowScaledGraph` replaces."""
    return _replacements(onnx) is not None


@dataclass(frozen=True, slots=True)
class RowScaledGraph:
    """A graph for which `can_scale_rows` holds, with a scale for each row of activations."""

    file: Path
    part: GraphPart | None = None
    """What to take of the file; None takes all of it."""

    def content(self) -> bytes:
        """Return an ONNX model of it. External data stay in their files.

        Raises:
            ModelLoadError: the file cannot be read, or is no ONNX graph.
        """
        if self.part is not None:
            return _rewritten(self.part.content())
        with mapped(self.file) as data:
            return _rewritten(data)


def _rewritten(data: Bytes) -> bytes:
    onnx = read_mapped(data)
    instead = _replacements(onnx) or {}
    graph = [constant(*one) for one in _CONSTANTS.items()]
    for entry in onnx.entries:
        made = instead.get(entry.item) if isinstance(entry.item, Node) else None
        graph += [data[slice(*entry.span)]] if made is None else made
    before, after = onnx.around
    pieces = [data[slice(*span)] for span in before]
    pieces += [field_header(GRAPH, sum(map(len, graph))), *graph]
    pieces += [data[slice(*span)] for span in after]
    if MICROSOFT not in onnx.signature.opsets:
        pieces.append(operator_set(MICROSOFT, 1))
    return b"".join(pieces)


def _replacements(onnx: OnnxFile) -> Mapping[Node, Sequence[bytes]] | None:
    """Return what stands in place of nodes; nothing where a node goes."""
    wide = [one for one in onnx.nodes if one.operator in BATCH_WIDE]
    nested = operators(onnx) & BATCH_WIDE != {one.operator for one in wide}
    if onnx.signature.opsets.get("", 0) < _OLDEST_OPSET or nested or onnx.functions:
        return None
    return _Rewriting(onnx).replacements(wide)


class _OtherFormError(Exception):
    """The graph quantises in a form that is not replaced."""


class _Rewriting:
    def __init__(self, onnx: OnnxFile) -> None:
        self._axes_are_input = onnx.signature.opsets[""] >= _AXES_ARE_INPUT
        self._constants = {entry.name for entry in onnx.entries if entry.number == INITIALIZER}
        self._outputs = onnx.names(OUTPUT)
        self._takers = defaultdict[bytes, list[Node]](list)
        for taker in onnx.nodes:
            for name in (*taker.inputs, *taker.captured):
                self._takers[name].append(taker)
        self._makers = {name: made for made in onnx.nodes for name in made.outputs}
        self._instead: dict[Node, list[bytes]] = {}
        self._one_sided = set[bytes]()
        """Rows that are `low + scale * q`."""

    def replacements(self, wide: Sequence[Node]) -> Mapping[Node, Sequence[bytes]] | None:
        try:
            for one in wide:
                match one.operator:
                    case "DynamicQuantizeLinear":
                        self._replace_quantisation(one)
                    case "DynamicQuantizeMatMul":
                        self._replace_fused(one)
                    case _:
                        return None
        except _OtherFormError:
            return None
        return self._instead

    def _replace_quantisation(self, quantising: Node) -> None:
        rows, scale, zero = quantising.outputs
        if self._outputs & {rows, scale, zero}:
            raise _OtherFormError
        self._instead[quantising] = self._quantised(quantising.inputs[0], rows, scale)
        products = self._takers[rows]
        allowed = set(products)
        for product in products:
            match product.operator:
                case "MatMulInteger":
                    allowed |= self._replace_product(product, quantising.outputs)
                case "MatMulIntegerToFloat":
                    self._replace_product_to_float(product, quantising.outputs)
                case _:
                    raise _OtherFormError
        if not {*self._takers[scale], *self._takers[zero]} <= allowed:
            raise _OtherFormError

    def _replace_product(self, product: Node, quantised: Sequence[bytes]) -> set[Node]:
        """Replace MatMulInteger, Cast and the two Mul; return the nodes that went."""
        rows, scale, zero = quantised
        inputs = _padded(product.inputs, 4)
        if inputs[0] != rows or inputs[2] != zero:
            raise _OtherFormError
        cast = self._only_taker(product.outputs[0], "Cast")
        scaled = self._only_taker(cast.outputs[0], "Mul")
        scales_name = _other(scaled.inputs, cast.outputs[0])
        maker = self._makers.get(scales_name)
        if (
            maker is None
            or maker.operator != "Mul"
            or self._only_taker(scales_name, "Mul") != scaled
        ):
            raise _OtherFormError
        weights_scale = _other(maker.inputs, scale)
        made = self._product((rows, inputs[1], weights_scale, inputs[3]), scale, scaled.outputs[0])
        self._instead |= {product: [], cast: [], maker: [], scaled: made}
        return {maker}

    def _replace_product_to_float(self, product: Node, quantised: Sequence[bytes]) -> None:
        rows, scale, zero = quantised
        inputs = _padded(product.inputs, 7)
        if (inputs[0], inputs[2], inputs[4]) != (rows, scale, zero):
            raise _OtherFormError
        weights = (rows, inputs[1], inputs[3], inputs[5])
        self._instead[product] = self._product(weights, scale, product.outputs[0], inputs[6])

    def _replace_fused(self, product: Node) -> None:
        inputs = _padded(product.inputs, 5)
        output = product.outputs[0]
        rows, scale = _within(output, "rows scale")
        weights = (rows, inputs[1], inputs[2], inputs[3])
        quantised = self._quantised(inputs[0], rows, scale)
        self._instead[product] = quantised + self._product(weights, scale, output, inputs[4])

    def _only_taker(self, value: bytes, operator: str) -> Node:
        takers = self._takers[value]
        if value in self._outputs or len(takers) != 1 or takers[0].operator != operator:
            raise _OtherFormError
        return takers[0]

    def _quantised(self, value: bytes, rows: bytes, scale: bytes) -> list[bytes]:
        """Return nodes that make rows of uint8, and their scales (..., 1)."""
        peak, bound, inverse, scaled = _within(rows, "peak bound inverse scaled")
        if self._follows_activation(value):
            self._one_sided.add(rows)
            least, most, low, high, above = _within(rows, "least most low high above")
            size = [
                self._reduced("ReduceMin", value, least),
                self._reduced("ReduceMax", value, most),
                node("Min", [least, _NOTHING], low),
                node("Max", [most, _NOTHING], high),
                node("Sub", [high, low], peak),
                node("Sub", [value, low], above),
            ]
            source, share, zero = above, _SHARE, _FIRST
        else:
            (absolute,) = _within(rows, "absolute")
            size = [
                node("Abs", [value], absolute),
                self._reduced("ReduceMax", absolute, peak),
            ]
            source, share, zero = value, _SIGNED_SHARE, _MIDDLE
        return [
            *size,
            node("Max", [peak, _LEAST], bound),
            node("Mul", [bound, share], scale),
            node("Reciprocal", [scale], inverse),
            node("Mul", [source, inverse], scaled),
            node("QuantizeLinear", [scaled, _ONE, zero], rows),
        ]

    def _follows_activation(self, value: bytes) -> bool:
        waiting = [value]
        for _ in range(_MOST_STEPS):
            maker = self._makers.get(waiting.pop(0)) if waiting else None
            if maker is not None and maker.operator in _ACTIVATIONS:
                return True
            if maker is not None and maker.operator in _ELEMENTWISE:
                waiting += maker.inputs
        return False

    def _reduced(self, operator: str, value: bytes, output: bytes) -> bytes:
        if self._axes_are_input:
            return node(operator, [value, _LAST], output)
        return node(operator, [value], output, attributes={"axes": [-1]})

    def _product(
        self,
        weights: tuple[bytes, bytes, bytes, bytes],
        scale: bytes,
        output: bytes,
        bias: bytes = b"",
    ) -> list[bytes]:
        """Return nodes that multiply rows by weights, and the product by the rows' scales."""
        rows, values, weights_scale, weights_zero = weights
        if not {values, weights_scale} <= self._constants:
            raise _OtherFormError
        product, scaled, sums, shift, whole = _within(output, "product scaled sums shift whole")
        is_one_sided = rows in self._one_sided
        zero = _FIRST if is_one_sided else _MIDDLE
        inputs = [rows, values, _ONE, weights_scale, zero, weights_zero]
        terms = [product, scale], [scaled, shift], [whole, bias]
        made = [node("MatMulIntegerToFloat", inputs, product, MICROSOFT)]
        last = scaled if is_one_sided else whole if bias else output
        made.append(node("Mul", terms[0], last))
        if is_one_sided:
            made += _sums(values, weights_scale, weights_zero, sums)
            made.append(node("Mul", [*_within(rows, "low"), sums], shift))
            made.append(node("Add", terms[1], whole if bias else output))
        return [*made, node("Add", terms[2], output)] if bias else made


def _within(value: bytes, names: str) -> list[bytes]:
    """Return names for what a value is made of."""
    return [value + b"/" + name for name in names.encode().split()]


def _padded(inputs: Sequence[bytes], count: int) -> list[bytes]:
    """Return as many inputs, empty where an optional one is left out."""
    return [*inputs, *[b""] * (count - len(inputs))]


def _other(pair: Sequence[bytes], one: bytes) -> bytes:
    """Return the other input of a node with two. Raises _OtherFormError."""
    rest = [name for name in pair if name != one]
    if len(pair) != 2 or len(rest) != 1:  # noqa: PLR2004
        raise _OtherFormError
    return rest[0]


def _sums(values: bytes, scale: bytes, zero: bytes, sums: bytes) -> list[bytes]:
    """Return nodes that add up each column of the weights, which ONNX Runtime does once."""
    plain, offset, moved, whole = _within(sums, "plain offset moved whole")
    made = [node("Cast", [values], plain, attributes={"to": FLOAT})]
    if zero:
        made.append(node("Cast", [zero], offset, attributes={"to": FLOAT}))
        made.append(node("Sub", [plain, offset], moved))
    source = moved if zero else plain
    made.append(node("ReduceSum", [source, _COLUMN], whole, attributes={"keepdims": 0}))
    return [*made, node("Mul", [whole, scale], sums)]
