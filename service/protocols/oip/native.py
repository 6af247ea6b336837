"""The native tasks as tensors: texts and images are BYTES."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray
from pydantic import BaseModel

from service.api.classify import ClassifyRequest
from service.api.content import validated
from service.api.detect import DetectRequest
from service.api.embed import EmbedRequest
from service.api.generate import GenerateRequest
from service.api.tag import TagRequest
from service.api.translate import TranslateRequest
from service.errors import InvalidInputError, ServiceError
from service.protocols.oip.tensors import InputTensor
from service.requests.admission import ApiLimits
from service.requests.answer import Ask, ask_pipeline
from service.requests.documents import Documents
from service.requests.segment_stream import DocumentLimits
from service.tasks import (
    Answer,
    AnyItem,
    Classification,
    DetectedObject,
    Detections,
    Embedding,
    Generation,
    Inference,
    Mask,
    ObjectPart,
    Tagging,
    Task,
    TranslateItem,
    Translation,
)
from service.types import TensorSpec

_SCHEMAS: Final[Mapping[Task, type[BaseModel]]] = {
    Task.CLASSIFY: ClassifyRequest,
    Task.TAG: TagRequest,
    Task.TRANSLATE: TranslateRequest,
    Task.GENERATE: GenerateRequest,
    Task.DETECT: DetectRequest,
    Task.EMBED: EmbedRequest,
    Task.SPARSE: EmbedRequest,
}
_NAMES: Final = {"input_text": "text", "text_input": "text", "input_image": "image"}
"""Other names of inputs."""
_NOT_PARAMETERS: Final = {"text", "image", "model", "version", "stream"}
_STRINGS, _FLOATS = "string", "float32"

_OUTPUTS: Final[Mapping[Task, Mapping[str, TensorSpec]]] = {
    Task.CLASSIFY: {
        "label": TensorSpec(_STRINGS, (None, None)),
        "score": TensorSpec(_FLOATS, (None, None)),
    },
    Task.TAG: {
        "start": TensorSpec("int32", (None, None)),
        "end": TensorSpec("int32", (None, None)),
        "label": TensorSpec(_STRINGS, (None, None)),
        "score": TensorSpec(_FLOATS, (None, None)),
        "count": TensorSpec("int32", (None,)),
    },
    Task.TRANSLATE: {"translation": TensorSpec(_STRINGS, (None,))},
    Task.GENERATE: {"text": TensorSpec(_STRINGS, (None,))},
    Task.DETECT: {
        "boxes": TensorSpec(_FLOATS, (None, None, 4)),
        "label": TensorSpec(_STRINGS, (None, None)),
        "score": TensorSpec(_FLOATS, (None, None)),
        "count": TensorSpec("int32", (None,)),
    },
    Task.SPARSE: {
        "indices": TensorSpec("int32", (None, None)),
        "values": TensorSpec(_FLOATS, (None, None)),
        "count": TensorSpec("int32", (None,)),
    },
    Task.EMBED: {"embedding": TensorSpec(_FLOATS, (None, None))},
}
_OF_OBJECTS: Final[Mapping[ObjectPart, Mapping[str, TensorSpec]]] = {
    "masks": {"mask": TensorSpec(_STRINGS, (None, None))},
    "keypoints": {"keypoints": TensorSpec(_FLOATS, (None, None, None, None))},
    "rotated_box": {"rotated_box": TensorSpec(_FLOATS, (None, None, 5))},
}


def native_inputs(modalities: frozenset[str]) -> Mapping[str, TensorSpec]:
    """Return the inputs of a model of a native task."""
    return {name: TensorSpec(_STRINGS, (None,)) for name in sorted(modalities, reverse=True)}


def native_outputs(task: Task, finds: frozenset[ObjectPart]) -> Mapping[str, TensorSpec]:
    """Return the outputs of a model of a native task, which finds these parts of objects."""
    outputs = dict(_OUTPUTS[task])
    for part in sorted(finds):
        outputs |= _OF_OBJECTS[part]
    return outputs


def native_items(
    task: Task,
    inputs: Mapping[str, InputTensor],
    parameters: Mapping[str, Any],
    limits: ApiLimits,
) -> tuple[Sequence[AnyItem | ServiceError], Ask]:
    """Return the items of a request, and how to ask for one.

    Args:
        task: of the model.
        inputs: `text`, `text_pair` or `image`, of shape [n] or [n, 1].
        parameters: those that the native route knows by the same name; others are ignored.
        limits: of a request.

    Raises:
        InvalidInputError: an input or a parameter is not what the task takes.
        LimitExceededError: there are too many items.
    """
    body: Any = _body(task, inputs, parameters)
    ask: Ask = ask_pipeline
    if isinstance(body, TranslateRequest):
        ask = _documents(body, limits).answer
    return body.items(limits), ask


def translation_request(
    inputs: Mapping[str, InputTensor], parameters: Mapping[str, Any], limits: ApiLimits
) -> tuple[Sequence[TranslateItem | ServiceError], Documents]:
    """Return the items of a translation, and how to split them; raises as `native_items`."""
    body: Any = _body(Task.TRANSLATE, inputs, parameters)
    return body.items(limits), _documents(body, limits)


def _documents(body: TranslateRequest, limits: ApiLimits) -> Documents:
    return Documents(
        DocumentLimits(limits.max_segments, limits.request_timeout_seconds), body.split
    )


def _body(
    task: Task, inputs: Mapping[str, InputTensor], parameters: Mapping[str, Any]
) -> BaseModel:
    """Return the body of the native route that asks for the same."""
    schema = _SCHEMAS[task]
    values: dict[str, Any] = {}
    if parameters:
        values = {
            name: value
            for name, value in _known(parameters).items()
            if name in schema.model_fields and name not in _NOT_PARAMETERS
        }
    contents: dict[str, list[Any]] = {}
    for given, tensor in inputs.items():
        name = _NAMES.get(given, given)
        if name in contents:
            raise InvalidInputError(f"input {name!r} is given twice")
        contents[name] = _column(given, tensor, is_text=name != "image")
    pairs = contents.pop("text_pair", None) if task is Task.CLASSIFY else None
    for name in contents:
        if name not in ("text", "image") or name not in schema.model_fields:
            raise InvalidInputError(f"there is no input {name[:100]!r} for a model to {task}")
    if task in (Task.EMBED, Task.SPARSE):
        values["output"] = "sparse" if task is Task.SPARSE else "float"
    if pairs is not None:
        contents["text"] = _paired(contents.get("text", []), pairs)
    return validated({**values, **contents}, schema)


def _known(parameters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return parameters by native names. Raises InvalidInputError for what cannot be kept."""
    if parameters.get("embedding_type", "float") != "float":
        raise InvalidInputError("embedding_type must be float: other types are not served")
    if "dimensions" in parameters:
        raise InvalidInputError("dimensions cannot be chosen: leave it out")
    if "input_type" in parameters and "prompt_name" not in parameters:
        return {**parameters, "prompt_name": parameters["input_type"]}
    return parameters


def _column(name: str, tensor: InputTensor, *, is_text: bool) -> list[Any]:
    shape, values = tensor
    if not isinstance(values, list):
        raise InvalidInputError(f"input {name!r} must be BYTES")
    if len(shape) > 2 or len(values) != (shape[0] if shape else 1):  # noqa: PLR2004
        raise InvalidInputError(f"input {name!r} must have shape [n] or [n, 1], not {list(shape)}")
    if not is_text or not values or isinstance(values[0], str):
        return values
    try:
        return [value.decode() for value in values]
    except UnicodeDecodeError:
        raise InvalidInputError(f"input {name!r} holds a text that is not UTF-8") from None


def _paired(texts: Sequence[Any], pairs: Sequence[Any]) -> list[Any]:
    if len(texts) != len(pairs):
        raise InvalidInputError(f"there are {len(texts)} texts and {len(pairs)} of text_pair")
    return [{"text": text, "text_pair": pair} for text, pair in zip(texts, pairs, strict=True)]


def native_tensors(  # noqa: PLR0911 - one for each task
    answers: Sequence[Answer], finds: frozenset[ObjectPart]
) -> Mapping[str, NDArray[Any]]:
    """Return answers of one task as tensors, one row an answer.

    Rows with fewer labels, spans or objects than others end with empty labels and zeros.

    Args:
        answers: at least one.
        finds: what the model finds of objects besides boxes.
    """
    first = answers[0]
    match first:
        case Classification():
            labels = [one.labels for one in answers if isinstance(one, Classification)]
            return {
                "label": _strings([[label.name for label in row] for row in labels]),
                "score": _floats([[label.score for label in row] for row in labels]),
            }
        case Tagging():
            return _span_tensors([one for one in answers if isinstance(one, Tagging)])
        case Translation() | Generation():
            written = [a.text.encode() for a in answers if isinstance(a, Translation | Generation)]
            name = "text" if isinstance(first, Generation) else "translation"
            return {name: np.array(written, object)}
        case Detections():
            rows = [one.objects for one in answers if isinstance(one, Detections)]
            most = max(map(len, rows))
            boxes = [_floats([one.box for one in row], 4) for row in rows]
            return {
                "boxes": _padded(boxes, (most, 4)),
                "label": _strings([[one.label for one in row] for row in rows]),
                "score": _floats([[one.score for one in row] for row in rows]),
                "count": np.array(list(map(len, rows)), np.int32),
                **_parts_of(rows, most, finds),
            }
        case Embedding() if first.indices is not None:
            return _sparse_tensors([one for one in answers if isinstance(one, Embedding)])
        case Embedding():
            return {"embedding": np.array([a.vector for a in answers if isinstance(a, Embedding)])}
        case Inference():
            return first.outputs


def _parts_of(
    rows: Sequence[Sequence[DetectedObject]], most: int, finds: frozenset[ObjectPart]
) -> Mapping[str, NDArray[Any]]:
    """Return masks (as counts, polygons in JSON or PNG in base64), keypoints and rotated boxes."""
    parts: dict[str, NDArray[Any]] = {}
    if "masks" in finds:
        parts["mask"] = _strings([[_mask_text(one.mask) for one in row] for row in rows])
    if "keypoints" in finds:
        points = [[one.keypoints or () for one in row] for row in rows]
        shape = next((np.shape(one) for row in points for one in row), (0, 0))
        parts["keypoints"] = _padded(
            [np.array(row, np.float32).reshape(len(row), *shape) for row in points], (most, *shape)
        )
    if "rotated_box" in finds:
        rotated = [[one.rotated_box or () for one in row] for row in rows]
        parts["rotated_box"] = _padded([_floats(row, 5) for row in rotated], (most, 5))
    return parts


def _mask_text(mask: Mask | None) -> str:
    if mask is None:
        return ""
    if mask.polygons is not None:
        return orjson.dumps(mask.polygons).decode()
    return mask.rle or mask.png or ""


def _span_tensors(answers: Sequence[Tagging]) -> Mapping[str, NDArray[Any]]:
    rows = [one.spans for one in answers]
    return {
        "start": _floats([[one.start for one in row] for row in rows], dtype=np.int32),
        "end": _floats([[one.end for one in row] for row in rows], dtype=np.int32),
        "label": _strings([[one.label for one in row] for row in rows]),
        "score": _floats([[one.score for one in row] for row in rows]),
        "count": np.array(list(map(len, rows)), np.int32),
    }


def _sparse_tensors(answers: Sequence[Embedding]) -> Mapping[str, NDArray[Any]]:
    indices = [() if one.indices is None else one.indices.tolist() for one in answers]
    return {
        "indices": _floats(indices, dtype=np.int32),
        "values": _floats([one.vector.tolist() for one in answers]),
        "count": np.array([one.vector.size for one in answers], np.int32),
    }


def _strings(rows: Sequence[Sequence[str]]) -> NDArray[Any]:
    width = max(map(len, rows))
    filled = [[*(name.encode() for name in row), *[b""] * (width - len(row))] for row in rows]
    return np.array(filled, object)


def _floats(
    rows: Sequence[Sequence[float]], width: int | None = None, dtype: Any = np.float32
) -> NDArray[Any]:
    wide = max(map(len, rows), default=0) if width is None else width
    if rows and min(map(len, rows)) == wide:
        return np.array(rows, dtype)
    return _padded([np.array(row, dtype) for row in rows], (wide,), dtype)


def _padded(
    rows: Sequence[NDArray[Any]], shape: tuple[int, ...], dtype: Any = np.float32
) -> NDArray[Any]:
    padded = np.zeros((len(rows), *shape), dtype)
    for row, values in zip(padded, rows, strict=True):
        row[: len(values)] = values
    return padded
