"""Bodies of task requests: JSON, a form with files, or one image; and the items in them."""

from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema
from pydantic_core import PydanticCustomError

from service.api.errors import MalformedRequestError, refusal
from service.api.forms import image_bytes, parse_form, parse_query
from service.api.http_request import HttpRequest
from service.api.json_structure import check_marks, refuse_duplicates
from service.errors import (
    InvalidInputError,
    LimitExceededError,
    ServiceError,
    UnsupportedMediaTypeError,
    kept,
)
from service.requests.admission import MOST_LABELS, ApiLimits
from service.tasks import Image, Text
from service.transforms.counting import occurrences

_JSON = b"application/json"
_JSON_SUFFIX = b"+json"
_FORM = b"multipart/form-data"
_UTF_8 = (b"utf-8", b"utf8", b"us-ascii")
_REPEATABLE = {"text", "image", "labels"}


def _listed(kind: str) -> BeforeValidator:
    """Return what makes a list of one item, and names the kind if it is given something else."""

    def listed(value: object) -> object:
        if isinstance(value, list):
            return value
        if isinstance(value, str | bytes | dict):
            return [value]
        raise PydanticCustomError("item_type", "must be {kind}, or a list of these", {"kind": kind})

    return BeforeValidator(listed)


def _one_or_more(kind: str, format_: Mapping[str, str]) -> Mapping[str, Any]:
    one = {"type": "string", "description": kind, **format_}
    return {"anyOf": [one, {"type": "array", "items": one}]}


_TEXT_OR_PAIR: Mapping[str, Any] = {
    "anyOf": [
        {"type": "string", "description": "A text."},
        {
            "type": "object",
            "description": "Two texts, of a model that tells how they are related.",
            "properties": {"text": {"type": "string"}, "text_pair": {"type": "string"}},
            "required": ["text", "text_pair"],
            "additionalProperties": False,
        },
    ]
}

# The elements are checked one by one later, so that an invalid one does not fail the others.
Texts = Annotated[
    list[Any],
    _listed("a string"),
    WithJsonSchema(_one_or_more("A text.", {})),
]
TextsOrPairs = Annotated[
    list[Any],
    _listed("a string, or an object of text and text_pair"),
    WithJsonSchema({"anyOf": [_TEXT_OR_PAIR, {"type": "array", "items": _TEXT_OR_PAIR}]}),
]
Images = Annotated[
    list[Any],
    _listed("a string"),
    WithJsonSchema(
        _one_or_more(
            "An image file (PNG, JPEG, WebP, GIF, BMP, TIFF) in base64, or as a data URI.",
            {"contentEncoding": "base64"},
        )
    ),
]
ModelName = Annotated[str, Field(min_length=1, max_length=128)]
Version = Annotated[int, Field(ge=1, lt=2**31)]


class TaskRequest(BaseModel):
    """The members that every task request has."""

    model_config = ConfigDict(extra="forbid")

    model: ModelName | None = Field(None, description="A model's name; else the task's default.")
    version: Version | None = Field(None, description="Its version; else the one that serves.")


RequestT = TypeVar("RequestT", bound=BaseModel)
ValueT = TypeVar("ValueT")
ItemT = TypeVar("ItemT")


async def read_request(request: HttpRequest, model: type[RequestT]) -> RequestT:
    """Read a task request from JSON, a form or an image.

    Raises:
        MalformedRequestError: the body does not match its Content-Type.
        InvalidInputError: the body does not match the schema of the task.
        LimitExceededError: the body is too long, or has too many values.
        UnsupportedMediaTypeError: the Content-Type is not supported.
        RequestTimeoutError: the body did not arrive before the deadline.
    """
    content_type = request.given.get(b"content-type", b"")
    media_type, limits = _media_type(content_type), request.context.limits
    query = request.scope["query_string"]
    if query and not media_type.startswith(b"image/"):
        raise InvalidInputError("parameters belong in the body; the query only goes with images")
    if media_type == _JSON or media_type.endswith(_JSON_SUFFIX):
        return parse_json(await request.read_body(), model, limits)
    takes_images = "image" in model.model_fields
    if media_type == _FORM and takes_images:
        most = limits.max_items + _most_parameters(model)
        return validated(
            parse_form(await request.read_body(), content_type, most, _REPEATABLE), model
        )
    if media_type.startswith(b"image/") and takes_images:
        values = parse_query(query, _most_parameters(model), {"labels"})
        if "image" in values:
            raise MalformedRequestError("'image' is given twice: in the body and in the query")
        return validated(values | {"image": await request.read_body()}, model)
    raise UnsupportedMediaTypeError(_expected(takes_images))


def _most_parameters(model: type[BaseModel]) -> int:
    """Return how many fields of a form or a query a valid request has, besides its items."""
    labels = MOST_LABELS if "labels" in model.model_fields else 0
    return len(model.model_fields) + labels


def each(
    values: Iterable[ValueT], to_item: Callable[[ValueT], ItemT]
) -> list[ItemT | ServiceError]:
    """Return an item for every value, or the error of a value that is invalid."""
    items: list[ItemT | ServiceError] = []
    for value in values:
        try:
            items.append(to_item(value))
        except ServiceError as error:
            items.append(kept(error))
    return items


def check_count(count: int, limits: ApiLimits) -> None:
    """Raise InvalidInputError for no items, LimitExceededError for too many."""
    if count == 0:
        raise InvalidInputError("there are no items in the request")
    if count > limits.max_items:
        raise LimitExceededError(f"{count} items are over the limit of {limits.max_items}")


def as_text(value: object, limits: ApiLimits, name: str = "text", most: int | None = None) -> Text:
    """Return one text.

    Args:
        value: a JSON value.
        limits: bounds the number of characters, unless `most` does.
        name: of the JSON member.
        most: the largest number of characters.

    Raises:
        InvalidInputError: it is not a string, is empty, or has a null character.
        LimitExceededError: it has too many characters.
    """
    most = limits.max_characters if most is None else most
    if not isinstance(value, str):
        raise InvalidInputError(f"the {name} must be a string")
    if not value:
        raise InvalidInputError(f"the {name} is empty")
    if len(value) > most:
        raise LimitExceededError(f"the {name} has {len(value)} characters; at most {most} are read")
    if "\0" in value:
        raise InvalidInputError(f"the {name} has a null character")
    return Text(value)


def as_image(value: object, limits: ApiLimits) -> Image:
    """Return one image file, from bytes, base64 or a data URI.

    Raises:
        InvalidInputError: it is not a string or not base64, or is empty.
        UnsupportedMediaTypeError: it is a data URI of another media type.
    """
    if isinstance(value, str):
        value = image_bytes(value)
    if not isinstance(value, bytes):
        raise InvalidInputError("an image must be a string: base64, or a data URI")
    if not value:
        raise InvalidInputError("the image is empty")
    return Image(value, limits.max_pixels)


def _media_type(content_type: bytes) -> bytes:
    if content_type == _JSON:
        return _JSON
    media_type, *parameters = (part.strip() for part in content_type.lower().split(b";"))
    for parameter in parameters:
        name, _, value = parameter.partition(b"=")
        if name == b"charset" and value.strip(b"\"'") not in _UTF_8:
            raise UnsupportedMediaTypeError("the charset must be utf-8")
    return media_type


def _expected(takes_images: bool) -> str:
    ways = "application/json"
    if takes_images:
        ways += ", multipart/form-data, or an image as the body with its image/* type"
    return f"the Content-Type must be {ways}"


ModelT = TypeVar("ModelT", bound=BaseModel)

_LONG_BODY = 64 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def validated(values: Mapping[str, Any], model: type[ModelT]) -> ModelT:
    """Return values as `model`. Raises InvalidInputError."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise refusal(error, model) from None


def parse_json(body: bytes, model: type[ModelT], limits: ApiLimits) -> ModelT:
    """Return the body as `model`. No value is converted, and no key is ignored.

    Raises:
        MalformedRequestError: it is not JSON or not UTF-8, is nested too deep, or repeats a key.
        LimitExceededError: it has more values than any valid request.
        InvalidInputError: it does not match the model.
    """
    body = body.removeprefix(_BYTE_ORDER_MARK)
    check_structure(body, limits)
    try:
        parsed = model.model_validate_json(body, strict=True)
    except ValidationError as error:
        raise refusal(error, model) from None
    # A key can be repeated only if there are more colons than keys.
    if _counter(body)(body, b":") != len(parsed.model_fields_set):
        refuse_duplicates(body)
    return parsed


def _counter(body: bytes) -> Callable[[bytes, bytes], int]:
    return bytes.count if len(body) < _LONG_BODY else occurrences


def check_structure(body: bytes, limits: ApiLimits, most_values: int | None = None) -> None:
    """Check the depth and the number of values before a parser allocates memory for them.

    Args:
        body: JSON, not parsed yet.
        limits: bounds the depth, and the number of values unless `most_values` does.
        most_values: the largest number of values.

    Raises:
        MalformedRequestError: the JSON is nested deeper than the limit.
        LimitExceededError: it has more values than the limit.
    """
    count = _counter(body)
    opened = count(body, b"[") + count(body, b"{")
    if opened <= limits.max_json_depth and count(body, b",") <= limits.max_items:  # most bodies
        return
    check_marks(body, limits, most_values)
