"""Forms, queries, and images as text: base64 and data URIs."""

import binascii
import logging
import re
from collections.abc import Collection, Iterable
from contextlib import suppress
from io import BytesIO
from typing import Any
from urllib.parse import parse_qsl

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from python_multipart import FormParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import Field, File, parse_options_header

from service.api.errors import MalformedRequestError
from service.errors import InvalidInputError, LimitExceededError, UnsupportedMediaTypeError

_IN_MEMORY = {"MAX_MEMORY_FILE_SIZE": float("inf"), "UPLOAD_ERROR_ON_BAD_CTE": True}

Values = dict[str, Any]

_IMAGES = ("image", "source_image")

_BRACKETS = re.compile(r"\[\d*\]$")

# It warns about every broken form. The client is answered, and must not be able to fill the log.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


def parse_form(body: bytes, content_type: bytes, max_parts: int, repeatable: set[str]) -> Values:
    """Return the fields of a multipart form: images as bytes, everything else as text.

    An image may also be text (base64 or a data URI), so a part named `image` is bytes only if it is
    a file, has the media type of one, or is not ASCII. A file in any other field is read as
    text. A name in `repeatable` gives a list in the order of its parts, and may end in brackets
    (`image[]`), as some clients write a list.

    Raises:
        MalformedRequestError: the form is not well-formed, or repeats a field.
        LimitExceededError: it has more than `max_parts` parts.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise MalformedRequestError("the multipart content type names no boundary")
    parts = _Parts(max_parts, repeatable)
    parser = None
    try:
        parser = FormParser(
            "multipart/form-data", parts.add, parts.add, parts.end, boundary, config=_IN_MEMORY
        )
        parser.write(_without_preamble(body, b"--" + boundary))
        parser.finalize()
    except FormParserError as error:
        raise MalformedRequestError(f"the form cannot be read: {error}") from None
    finally:
        if parser is not None:
            parser.parser = None  # its callbacks refer to `parser`, which holds the files
    if not parts.complete:
        raise MalformedRequestError("the form has no end: its last boundary is missing")
    return collected(parts.found, repeatable)


def parse_query(
    query: bytes, max_parameters: int, repeatable: Collection[str] = frozenset()
) -> Values:
    """Return the parameters of a query; of a `repeatable` one a list.

    Raises:
        MalformedRequestError: it cannot be read, or repeats another parameter.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=max_parameters,
        )
    except ValueError:  # UnicodeDecodeError is one
        raise MalformedRequestError("the query cannot be read") from None
    return collected(pairs, repeatable)


def collected(pairs: Iterable[tuple[str, str | bytes]], repeatable: Collection[str]) -> Values:
    """Return pairs as a mapping. Raises MalformedRequestError for a name given twice."""
    values: Values = {}
    for name, value in pairs:
        if name in repeatable:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise MalformedRequestError(f"{name[:40]!r} is given twice")
        else:
            values[name] = value
    return values


class _Parts:
    """Collects the parts that the parser finds."""

    def __init__(self, most: int, repeatable: Collection[str]) -> None:
        self.found: list[tuple[str, str | bytes]] = []
        self.complete = False
        self._most, self._repeatable = most, repeatable

    def add(self, part: Field | File) -> None:
        if len(self.found) >= self._most:
            raise LimitExceededError(f"the form has more than {self._most} parts")
        try:
            name = (part.field_name or b"").decode()
            listed = _BRACKETS.sub("", name)
            name = listed if listed in self._repeatable else name
            data = _data(part)
            is_image = name in _IMAGES and _is_binary(part, data)
            is_file = isinstance(part, File)  # of a wrong name, the name is what is refused
            self.found.append((name, data if is_image else _text(data, is_file)))
        except UnicodeDecodeError:
            raise MalformedRequestError("a form field is not UTF-8") from None

    def end(self) -> None:
        self.complete = True


def _text(data: bytes, is_file: bool) -> str:
    return data.decode(errors="replace" if is_file else "strict")


def _without_preamble(body: bytes, delimiter: bytes) -> bytes:
    """Return a multipart body from its first delimiter on (RFC 2046, 5.1.1)."""
    if body.startswith(delimiter):
        return body
    at = body.find(b"\r\n" + delimiter)
    return body if at < 0 else body[at + 2 :]


def _is_binary(part: Field | File, data: bytes) -> bool:
    """Tell whether an image was sent as a file and not as base64 or a data URI."""
    media_type = (part.content_type or "").partition(";")[0].strip().lower()
    is_file = isinstance(part, File) or media_type.startswith("image/")
    return is_file or media_type == "application/octet-stream" or not data.isascii()


def _data(part: Field | File) -> bytes:
    if isinstance(part, Field):
        return part.value or b""
    stored = part.file_object
    stored.seek(0)
    return stored.getvalue() if isinstance(stored, BytesIO) else stored.read()


# In a quarter of the time that `binascii` takes.
_BASE64 = TypeAdapter(bytes, config=ConfigDict(val_json_bytes="base64"))
_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_FROM_URL_SAFE = bytes.maketrans(b"-_", b"+/")
_LONGEST_HEAD = 1000
"""Characters of a data URI's type and parameters."""
_WHITE_SPACE = b" \t\n\r\f\v"
_PERCENT = ord("%")

_NO_DIGIT = 255
_HEXADECIMAL = np.full(256, _NO_DIGIT, np.uint8)
"""The value of each character's code as a hexadecimal digit."""
for _digits in (b"0123456789abcdef", b"0123456789ABCDEF"):
    _HEXADECIMAL[list(_digits)] = range(16)


def image_bytes(text: str) -> bytes:
    """Return an image from base64 or a data URI.

    Base64 is decoded as browsers decode it (WHATWG forgiving-base64: white space is ignored,
    padding may be missing), and also in the alphabet for URLs.

    Raises:
        InvalidInputError: the text is a URL, or is not base64.
        UnsupportedMediaTypeError: the media type of the data URI is not an image.
    """
    text = text.lstrip()
    if text[:5].lower() == "data:":
        text = _data_of_uri(text)
    if len(text) % 4 == 0 and "\\" not in text:  # which would begin an escape sequence
        with suppress(ValidationError):  # not the usual form; the others cost a copy
            return _BASE64.validate_json(f'"{text}"')
    return _forgiving(text)


def _data_of_uri(uri: str) -> str:
    comma = uri.find(",", 5, 5 + _LONGEST_HEAD)
    if comma < 0:
        raise InvalidInputError("the data URI has no comma after its type and parameters")
    head, data = uri[5:comma], uri[comma + 1 :]
    media_type, *parameters = (part.strip() for part in head.lower().split(";"))
    if not (media_type.startswith("image/") or media_type == "application/octet-stream"):
        raise UnsupportedMediaTypeError("the data URI is of no image type")
    if "base64" not in parameters:
        raise InvalidInputError("the data URI is not in base64")
    return _unescaped(data) if "%" in data else data


def _unescaped(text: str) -> str:
    """Return a text without percent-encoding; what is no escape sequence stays.

    Done by numpy: `urllib` takes three seconds for 16 MB of escape sequences.
    """
    codes = np.frombuffer(text.encode(), np.uint8)
    at = np.flatnonzero(codes[:-2] == _PERCENT)
    high, low = _HEXADECIMAL[codes[at + 1]], _HEXADECIMAL[codes[at + 2]]
    is_escape = (high != _NO_DIGIT) & (low != _NO_DIGIT)
    at = at[is_escape]
    result = codes.copy()
    result[at] = high[is_escape] * 16 + low[is_escape]
    kept = np.ones(codes.size, bool)
    kept[at + 1] = kept[at + 2] = False
    return result[kept].tobytes().decode(errors="replace")


def _forgiving(text: str) -> bytes:
    if _ADDRESS.match(text):
        raise InvalidInputError(
            "the image is a URL, and URLs are not fetched: send the image itself, in base64, as a "
            "file of a form or as the raw body"
        )
    if not text.isascii():
        raise InvalidInputError("the image is not base64: there are other characters in it")
    # Not split into words: of a text of short lines these would take 20 times its size.
    code = text.encode("ascii").translate(None, _WHITE_SPACE)
    if (b"-" in code or b"_" in code) and not (b"+" in code or b"/" in code):
        code = code.translate(_FROM_URL_SAFE)
    if b"=" not in code:
        code += b"=" * (-len(code) % 4)
    try:
        return binascii.a2b_base64(code, strict_mode=True)
    except ValueError as error:
        raise InvalidInputError(f"the image is not base64: {error}") from None
