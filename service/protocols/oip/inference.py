"""An inference request of the protocol, without its transport."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.errors import InvalidInputError
from service.protocols.oip.native import native_items, native_outputs, native_tensors
from service.protocols.oip.tensors import InputTensor, datatype_of, from_raw
from service.protocols.protocol import worst_error
from service.registry.registry import Registry
from service.requests.admission import ApiLimits
from service.requests.answer import Answers, Ask, answer, ask_pipeline, found
from service.requests.pipeline import Pipeline
from service.requests.request import Request, Selection
from service.requests.tensors import items_of, joined
from service.types import TensorSpec

_HIGHEST_PRIORITY, _LOWEST_PRIORITY = 10, -10
_MICROSECONDS: Final = 1_000_000
_MOST_CLASSES = 1_000


@dataclass(frozen=True, slots=True)
class RequestedOutput:
    """An output that the client asks for."""

    name: str
    is_binary: bool | None = None
    """None leaves it to the request."""
    classes: int = 0
    """Return this many of the largest values, as "value:index:label" where there are labels and
    else "value:index"; 0 returns the tensor."""


class InferCall(NamedTuple):
    """What a client asks for."""

    model: str
    version: int | None = None
    id: str = ""
    inputs: Mapping[str, InputTensor] = MappingProxyType({})
    outputs: Sequence[RequestedOutput] = ()
    """Empty: all of them."""
    parameters: Mapping[str, Any] = MappingProxyType({})


class InferResult(NamedTuple):
    """What a client receives."""

    model: str
    version: int
    id: str
    outputs: Mapping[str, NDArray[Any]]
    answers: Answers


def parse_version(version: str | None) -> int | None:
    """Return the number of a version; None for an empty one. Raises InvalidInputError."""
    if not version:
        return None
    if not (version.isascii() and version.isdigit() and len(version) < 10):  # noqa: PLR2004
        raise InvalidInputError(f"the version {version[:20]!r} is not a number")
    return int(version)


def seconds_of(parameters: Mapping[str, Any]) -> float | None:
    """Return the timeout of a request; None without one. Raises InvalidInputError."""
    microseconds = parameters.get("timeout", 0)
    if not isinstance(microseconds, int) or microseconds < 0:
        raise InvalidInputError("the parameter timeout must be a whole number of microseconds")
    return microseconds / _MICROSECONDS if microseconds else None


def prioritised(request: Request, parameters: Mapping[str, Any]) -> Request:
    """Return the request with the priority of its parameters: 1 is the highest, 0 the default.

    Raises:
        InvalidInputError: the priority is not a whole number from 0.
    """
    priority = parameters.get("priority", 0)
    if not isinstance(priority, int) or priority < 0:
        raise InvalidInputError("the parameter priority must be a whole number from 0")
    if not priority:
        return request
    level = max(_HIGHEST_PRIORITY + 1 - priority, _LOWEST_PRIORITY)
    return replace(request, priority=level)


async def infer(
    registry: Registry, request: Request, call: InferCall, limits: ApiLimits
) -> InferResult:
    """Answer a request. Cancel the coroutine when its client has disconnected.

    Raises:
        InvalidInputError: the tensors or parameters are not what the model takes.
        ServiceError: no model can answer, or an item failed; the message has its index.
    """
    key = request.sticky or request.id
    pipeline = await found(partial(registry.named, call.model, call.version, key), request)
    if call.outputs:
        _check_outputs(call.outputs, _specs(pipeline))
    task, selection = pipeline.task, Selection(call.model, call.version)
    if call.parameters:
        request = prioritised(request, call.parameters)
    signature = pipeline.family.traits.signature
    if signature is not None:
        tensors = {name: tensor.array for name, tensor in call.inputs.items()}
        items: Any = items_of(tensors, signature, limits.max_items)
        ask: Ask = ask_pipeline
    else:
        items, ask = native_items(task, call.inputs, call.parameters, limits)
    answers = await answer(registry, request, task, selection, items, ask)
    if answers.cache is None:
        raise worst_error(answers, "row")
    results = [outcome.answer for outcome in answers.outcomes]
    if signature is None:
        outputs = native_tensors(results, pipeline.family.traits.finds)
    else:
        outputs = joined(results, signature)
    if call.outputs:
        is_batched = signature is None or signature.is_batched
        names = _named(outputs, pipeline) if signature is None else None
        outputs = {
            one.name: _classified(outputs[one.name], one.classes, is_batched, names)
            for one in call.outputs
        }
    model = pipeline.model
    return InferResult(model.name, model.version, call.id, outputs, answers)


def raw_inputs(pipeline: Pipeline[Any, Any], body: bytes) -> Mapping[str, InputTensor]:
    """Return the input of a body that is nothing but one tensor: a batch of one.

    Raises:
        InvalidInputError: the model has several inputs, or the shape is unknown.
    """
    signature = pipeline.family.traits.signature
    inputs: Mapping[str, TensorSpec]
    if signature is None:
        inputs = {name: TensorSpec("string", (None,)) for name in pipeline.modalities}
    else:
        inputs = signature.inputs
    if len(inputs) != 1:
        raise InvalidInputError("a raw body needs a model with one input")
    ((name, spec),) = inputs.items()
    shape = [*spec.shape]
    if shape and shape[0] is None and (signature is None or signature.is_batched):
        shape[0] = 1
    if spec.dtype == "string":
        return {name: InputTensor([1] * len(shape), [body])}
    known = prod(size for size in shape if size is not None) * np.dtype(spec.dtype).itemsize
    if shape.count(None) > 1 or len(body) % known:
        raise InvalidInputError(
            f"a raw body of {len(body)} bytes does not fit input {name!r}: send a JSON header"
        )
    sizes = [len(body) // known if size is None else size for size in shape]
    return {name: from_raw(name, datatype_of(spec.dtype), sizes, body)}


def _specs(pipeline: Pipeline[Any, Any]) -> Mapping[str, TensorSpec]:
    traits = pipeline.family.traits
    if traits.signature is None:
        return native_outputs(pipeline.task, traits.finds)
    return traits.signature.outputs


def _check_outputs(wanted: Sequence[RequestedOutput], known: Mapping[str, TensorSpec]) -> None:
    for one in wanted:
        if one.name not in known:
            raise InvalidInputError(
                f"there is no output {one.name[:100]!r}: the outputs are {', '.join(known)}"
            )
        if not 0 <= one.classes <= _MOST_CLASSES:
            raise InvalidInputError(f"classification must be from 0 to {_MOST_CLASSES}")
        if one.classes and known[one.name].dtype == "string":
            raise InvalidInputError(f"output {one.name!r} holds strings, which have no classes")


def _named(
    outputs: Mapping[str, NDArray[Any]], pipeline: Pipeline[Any, Any]
) -> NDArray[Any] | None:
    """Return "index:label" for each score, whose rows are sorted; None for a task without labels.

    The index is the label's place among those of the model, or in the row if it is not of them.
    """
    if "label" not in outputs:
        return None
    known = {name.encode(): at for at, name in enumerate(pipeline.family.traits.labels)}
    rows = [
        [b"%d:%b" % (known.get(name, at), name) for at, name in enumerate(row)]
        for row in outputs["label"].tolist()
    ]
    return np.array(rows, object).reshape(outputs["label"].shape)


def _classified(
    output: NDArray[Any], classes: int, is_batched: bool, names: NDArray[Any] | None
) -> NDArray[Any]:
    """Return the largest values of each row as "value:index", or as "value:index:label"."""
    if not classes:
        return output
    if names is not None and names.shape != output.shape:
        names = None
    rows = output.reshape(len(output), -1) if is_batched else output.reshape(1, -1)
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :classes]
    named = [
        [
            b"%f:%b" % (row[index], b"%d" % index if names is None else names[at][index])
            for index in order.tolist()
        ]
        for at, (row, order) in enumerate(zip(rows, best, strict=True))
    ]
    array = np.array(named, object).reshape(best.shape)
    return array if is_batched else array[0]
