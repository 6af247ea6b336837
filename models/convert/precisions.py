"""The precisions other than fp32 that a graph can be written in, by their served names."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import onnx
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16
from onnxruntime.transformers.onnx_model import OnnxModel

from models.convert.errors import CheckpointError
from models.convert.samples import Feeds
from models.graphs.int8_forms import quantise_by_rows
from models.graphs.quantise import quantise_weights
from models.graphs.quiet import quiet
from models.graphs.static import quantise_statically
from service.repository.manifest import Precision

Calibration = Sequence[Feeds]
"""Batches for the graph that is quantised; empty where none were given."""

_ROWS = ("MatMul", "Gemm")


class Quantise(Protocol):
    """Makes a copy of a graph with its products in few bits, but those that are named."""

    def __call__(
        self, model: onnx.ModelProto, /, *, excluded: Sequence[str] = ()
    ) -> onnx.ModelProto:
        """Return the copy. Raises ValueError where there is no product to make it of."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a precision is made, and what it is served as."""

    precision: Precision
    suffix: str
    """Between the graph's name and ".onnx", as Optimum and transformers.js have it."""
    make: Callable[[onnx.ModelProto, Calibration], onnx.ModelProto]
    is_calibrated: bool = False
    products: Quantise | None = None
    """Where layers can be kept out one by one, what makes the others."""


def _half(model: onnx.ModelProto, _: Calibration) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    halved = convert_float_to_float16(copy, keep_io_types=True)
    OnnxModel(halved).topological_sort()  # the casts of the inputs were put last
    return halved


def _products(quantise: Quantise, model: onnx.ModelProto, _: Calibration) -> onnx.ModelProto:
    return quantise(model)


def _of_products(precision: Precision, suffix: str, quantise: Quantise) -> Recipe:
    return Recipe(precision, suffix, partial(_products, quantise), products=quantise)


def _dynamic(kind: QuantType, model: onnx.ModelProto, _: Calibration) -> onnx.ModelProto:
    if not any(node.op_type in _ROWS for node in model.graph.node):
        raise ValueError("the graph holds no MatMul")
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "int8.onnx")
        quantize_dynamic(
            model,
            str(result),
            # Convolutions are left: ONNX Runtime is slower with them in integers on most CPUs.
            op_types_to_quantize=list(_ROWS),
            per_channel=True,
            reduce_range=True,  # without VNNI instructions, eight bits overflow in silence
            weight_type=kind,
        )
        return onnx.load(str(result))


def _static(model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    return quantise_statically(model, calibration)


RECIPES: Final[Mapping[str, Recipe]] = {
    "fp16": Recipe("fp16", "_fp16", _half),
    "int8": _of_products("int8", "_int8", quantise_by_rows),
    "int8-weights": _of_products("int8", "_int8", quantise_weights),
    "int8-dynamic": Recipe("int8", "_quantized", partial(_dynamic, QuantType.QInt8)),
    "int8-static": Recipe("int8", "_int8", _static, is_calibrated=True),
    "uint8-dynamic": Recipe("uint8", "_uint8", partial(_dynamic, QuantType.QUInt8)),
    "int4": _of_products("q4", "_q4", partial(quantise_weights, bits=4)),
}
"""By the name on the command line. `int8`, `int8-weights` and `int4` round activations row by row,
so an answer does not depend on its neighbours in a batch; with the dynamic ones it does, unless the
service opens them by rows. Why `int8` is by rows: docs/decisions/0014."""


def check_wanted(wanted: Sequence[str], has_calibration: bool) -> None:
    """Refuse what cannot stand in one directory.

    Raises:
        CheckpointError: two of the names are served as the same precision, or one needs
            calibration data and there are none.
    """
    served: dict[str, str] = {}
    for name in dict.fromkeys(wanted):
        if name not in RECIPES:  # fp32
            continue
        recipe = RECIPES[name]
        if (other := served.setdefault(recipe.precision, name)) != name:
            raise CheckpointError(
                f"{other} and {name} are both served as {recipe.precision}: choose one of them"
            )
        if recipe.is_calibrated and not has_calibration:
            raise CheckpointError(f"{name} needs --calibration FILE")


def make_precision(name: str, model: onnx.ModelProto, calibration: Calibration) -> onnx.ModelProto:
    """Return a copy of an fp32 graph in another precision.

    Raises:
        CheckpointError: the graph has nothing to be quantised this way.
    """
    try:
        with quiet():
            return RECIPES[name].make(model, calibration)
    except ValueError as error:
        raise CheckpointError(f"{name} cannot be made: {error}") from error
