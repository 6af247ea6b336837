"""Requests and responses of the protocol over REST: a JSON object, and raw tensors after it."""

from typing import Any

import orjson
from pydantic import BaseModel, Field

from service.api.content import validated
from service.api.errors import MalformedRequestError
from service.errors import InvalidInputError, LimitExceededError
from service.protocols.oip.inference import InferCall, InferResult, RequestedOutput
from service.protocols.oip.tensors import (
    InputTensor,
    datatype_of_array,
    from_raw,
    from_values,
    to_raw,
    to_values,
)
from service.protocols.protocol import ProtocolBody

_MOST_VALUES = 1_000_000
"""JSON values of a request; more are sent as binary data."""
_MOST_TENSORS = 1_024


class OipInput(ProtocolBody):
    """One input tensor."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = Field(
        None, description="Values, flat or nested; absent if they follow the JSON object as bytes."
    )


class OipRequestedOutput(ProtocolBody):
    """One output tensor to return."""

    name: str
    parameters: dict[str, Any] | None = None


class OipInferBody(ProtocolBody):
    """Tensors to feed to a model."""

    id: str | None = None
    parameters: dict[str, Any] | None = None
    inputs: list[OipInput]
    outputs: list[OipRequestedOutput] | None = Field(
        None, description="The outputs to return; all if absent."
    )


class OipOutput(BaseModel):
    """One output tensor."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: list[Any] | None = None


class OipInferResponse(BaseModel):
    """The outputs of a model."""

    id: str | None = None
    model_name: str
    model_version: str
    outputs: list[OipOutput]


def parse_object(body: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty body is an empty one.

    Raises:
        MalformedRequestError: it is no JSON object.
        LimitExceededError: it has too many values.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > _MOST_VALUES:
        raise LimitExceededError(
            f"the JSON holds more than {_MOST_VALUES} values: send the tensors as binary data"
        )
    try:
        values = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError as error:
        raise MalformedRequestError(f"the body is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise MalformedRequestError("the body must be a JSON object")
    return values


def parse_call(
    model: str, version: int | None, body: bytes, header_length: int | None
) -> InferCall:
    """Return a request from its body.

    Args:
        model: name in the path.
        version: number in the path.
        body: the JSON object, and the raw tensors of those inputs that say `binary_data_size`.
        header_length: bytes of the JSON object; None: all of the body.

    Raises:
        MalformedRequestError: it is no JSON object, or is shorter than `header_length`.
        InvalidInputError: a tensor is not what it says.
        LimitExceededError: there are too many values.
    """
    end = len(body) if header_length is None else header_length
    if end > len(body):
        raise MalformedRequestError(
            f"Inference-Header-Content-Length is {end}, and the body has {len(body)} bytes"
        )
    asked = validated(parse_object(body[:end]), OipInferBody)
    wanted = asked.outputs or ()
    if len(asked.inputs) + len(wanted) > _MOST_TENSORS:
        raise LimitExceededError(f"there are more than {_MOST_TENSORS} inputs and outputs")
    sizes = [_binary_size(one) if one.parameters else None for one in asked.inputs]
    total = sum(filter(None, sizes))
    if total != len(body) - end:
        raise InvalidInputError(
            f"the sizes in binary_data_size sum up to {total} bytes, "
            f"and {len(body) - end} follow the JSON object"
        )
    inputs: dict[str, InputTensor] = {}
    raw = memoryview(body)
    for one, size in zip(asked.inputs, sizes, strict=True):
        if one.name in inputs:
            raise InvalidInputError(f"input {one.name[:100]!r} is given twice")
        name = one.name[:100]
        if size is not None:
            inputs[one.name] = from_raw(name, one.datatype, one.shape, raw[end : end + size])
            end += size
        elif one.data is not None:
            inputs[one.name] = from_values(name, one.datatype, one.shape, one.data)
        else:
            raise InvalidInputError(f"input {name!r} has neither data nor binary_data_size")
    outputs = [_requested(one) for one in wanted] if wanted else ()
    return InferCall(model, version, asked.id or "", inputs, outputs, asked.parameters or {})


def render_result(
    result: InferResult, call: InferCall, is_binary: bool | None = None
) -> tuple[bytes, int | None]:
    """Return the body of a response, and the length of its JSON object if raw tensors follow.

    Args:
        result: what was computed.
        call: the request, which says which outputs are binary.
        is_binary: whether every output is; None leaves it to the request.

    Raises:
        InferenceError: JSON cannot express an output.
    """
    default = call.parameters.get("binary_data_output") is True
    wanted = {one.name: one.is_binary for one in call.outputs if one.is_binary is not None}
    body: dict[str, Any] = {"id": result.id} if result.id else {}
    body["model_name"], body["model_version"] = result.model, str(result.version)
    body["outputs"] = outputs = []
    chunks: list[bytes] = []
    for name, array in result.outputs.items():
        output: dict[str, Any] = {
            "name": name,
            "datatype": datatype_of_array(array),
            "shape": array.shape,
        }
        outputs.append(output)
        if wanted.get(name, default) if is_binary is None else is_binary:
            chunks.append(to_raw(array))
            output["parameters"] = {"binary_data_size": len(chunks[-1])}
        else:
            output["data"] = to_values(name, array)
    header = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
    return (b"".join([header, *chunks]), len(header)) if chunks else (header, None)


def _binary_size(one: OipInput) -> int | None:
    size = one.parameters.get("binary_data_size") if one.parameters else None
    if size is not None and (type(size) is not int or size < 0):
        raise InvalidInputError(f"input {one.name[:100]!r}: binary_data_size is not a size")
    if size is not None and one.data is not None:
        raise InvalidInputError(f"input {one.name[:100]!r} has both data and binary_data_size")
    return size


def _requested(one: OipRequestedOutput) -> RequestedOutput:
    parameters = one.parameters or {}
    classes = parameters.get("classification", 0)
    if type(classes) is not int:
        raise InvalidInputError("the parameter classification must be a whole number")
    binary = parameters.get("binary_data")
    return RequestedOutput(one.name, binary if isinstance(binary, bool) else None, classes)
