"""Requests and responses of the protocol as Protocol Buffers."""

from collections.abc import Mapping
from typing import Any, Final

from numpy.typing import NDArray

from service.errors import InvalidInputError, LimitExceededError
from service.protocols.oip.inference import (
    InferCall,
    InferResult,
    RequestedOutput,
    parse_version,
)
from service.protocols.oip.rpc import open_inference_pb2
from service.protocols.oip.tensors import (
    InputTensor,
    datatype_of_array,
    from_raw,
    from_values,
    to_raw,
)

pb: Any = open_inference_pb2
"""The generated messages, which have no types."""

_FIELDS: Final[Mapping[str, str]] = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of `contents` that holds a datatype; FP16 is sent as raw bytes only."""
_MOST_VALUES = 1_000_000
_MOST_TENSORS = 1_024
_FINAL: Final = "triton_final_response"
"""Parameter of the last response of a request in a stream."""


def parse_call(message: Any) -> InferCall:
    """Return the request of a `ModelInferRequest`.

    Raises:
        InvalidInputError: a tensor is not what it says.
        LimitExceededError: there are too many values.
    """
    raw = message.raw_input_contents
    if len(message.inputs) + len(message.outputs) > _MOST_TENSORS:
        raise LimitExceededError(f"there are more than {_MOST_TENSORS} inputs and outputs")
    if raw and len(raw) != len(message.inputs):
        raise InvalidInputError(
            f"raw_input_contents holds {len(raw)} tensors for {len(message.inputs)} inputs: send "
            "all of them there, or none"
        )
    inputs: dict[str, InputTensor] = {}
    for index, one in enumerate(message.inputs):
        if one.name in inputs:
            raise InvalidInputError(f"input {one.name[:100]!r} is given twice")
        name, shape = one.name[:100], [*one.shape]
        if raw:
            inputs[one.name] = from_raw(name, one.datatype, shape, raw[index])
        else:
            inputs[one.name] = from_values(name, one.datatype, shape, _values(name, one))
    outputs = [
        RequestedOutput(one.name, classes=_whole(_parameters(one.parameters), "classification"))
        for one in message.outputs
    ]
    return InferCall(
        message.model_name,
        parse_version(message.model_version),
        message.id,
        inputs,
        outputs,
        _parameters(message.parameters),
    )


def response_of(result: InferResult) -> Any:
    """Return a result as a `ModelInferResponse`."""
    return response(result.model, result.version, result.id, result.outputs)


def response(
    model: str,
    version: int,
    request_id: str,
    outputs: Mapping[str, NDArray[Any]],
    is_final: bool | None = None,
) -> Any:
    """Return tensors as a `ModelInferResponse`; `is_final` is for the responses of a stream."""
    message = pb.ModelInferResponse(
        model_name=model,
        model_version=str(version),
        id=request_id,
        outputs=[
            pb.ModelInferResponse.InferOutputTensor(
                name=name, datatype=datatype_of_array(array), shape=[*array.shape]
            )
            for name, array in outputs.items()
        ],
        raw_output_contents=[to_raw(array) for array in outputs.values()],
    )
    if is_final is not None:
        message.parameters[_FINAL].bool_param = is_final
    return message


def _values(name: str, tensor: Any) -> list[Any]:
    contents = tensor.contents
    filled = [field.name for field, _ in contents.ListFields()]
    wanted = _FIELDS.get(tensor.datatype)
    if wanted is None or any(field != wanted for field in filled):
        place = "raw_input_contents" if wanted is None else wanted
        raise InvalidInputError(f"input {name!r}: send {tensor.datatype[:20]} in {place}")
    values = getattr(contents, wanted)
    if len(values) > _MOST_VALUES:
        raise LimitExceededError(
            f"input {name!r} has more than {_MOST_VALUES} values: send raw_input_contents"
        )
    return list(values)


def _parameters(given: Any) -> dict[str, Any]:
    found = {}
    for name, parameter in given.items():
        if (choice := parameter.WhichOneof("parameter_choice")) is not None:
            found[name] = getattr(parameter, choice)
    return found


def _whole(parameters: Mapping[str, Any], name: str) -> int:
    value = parameters.get(name, 0)
    if type(value) is not int:
        raise InvalidInputError(f"the parameter {name} must be a whole number")
    return value
