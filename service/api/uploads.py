"""Bodies that are written to a file while they arrive: a form with one file, or the file itself."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Any
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect

from service.api.errors import MalformedRequestError, RequestTimeoutError
from service.api.forms import collected
from service.api.http_request import HttpRequest
from service.errors import (
    InvalidInputError,
    LimitExceededError,
    OverloadedError,
    UnsupportedMediaTypeError,
)

_log = logging.getLogger(__name__)

_BLOCK = 1024 * 1024
"""Bytes that are written at once, on a thread."""
_DISK_SECONDS = 30.0
"""`Retry-After` of a disk that is full."""
_LEAST_PACE = 32 * 1024
"""Bytes that must arrive in the time of a request, else the upload is given up."""
_MOST_FIELDS = 100
_MOST_FIELD_BYTES = 64 * 1024
"""All fields of a form that are not the file."""


@dataclass(frozen=True, slots=True)
class UploadKind:
    """What a route takes."""

    field: str
    """Name of the form's field for the file; `file` does as well."""
    media_types: tuple[bytes, ...]
    """Of a body that is the file itself, by their beginnings."""
    repeatable: frozenset[str] = frozenset()
    """Fields that give a list."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file that was received, and the fields that came with it."""

    path: Path
    values: Mapping[str, Any]

    def remove(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self.path.unlink()


async def receive_upload(
    request: HttpRequest, kind: UploadKind, most: int, folder: Path | None
) -> Upload:
    """Write the file in a body to the disk. The caller removes it.

    Args:
        request: its body has not been read.
        kind: what the route takes.
        most: bytes of the body.
        folder: where to write; None is the system's folder for temporary files.

    Raises:
        MalformedRequestError: the form is not well-formed.
        InvalidInputError: there is no file in it, or the file is empty.
        LimitExceededError: the body is longer than `most`.
        UnsupportedMediaTypeError: the Content-Type is neither a form's nor the file's.
        RequestTimeoutError: the body did not arrive before the deadline, or it arrives too slowly.
        OverloadedError: the disk is full.
        ClientDisconnect: the client disconnected before its end.
    """
    query = request.scope["query_string"].decode("ascii", "replace")
    pairs: list[tuple[str, str | bytes]] = [*parse_qsl(query, keep_blank_values=True)]
    try:
        with NamedTemporaryFile(dir=folder, prefix="quartet-", delete=False) as file:
            received = Upload(Path(file.name), {})
            try:
                pairs += await _body(request, kind, file, most)
                if not file.tell():
                    raise InvalidInputError(f"the {kind.field} is empty")  # noqa: TRY301
                return Upload(received.path, collected(pairs, set(kind.repeatable)))
            except BaseException:
                received.remove()
                raise
    except OSError as error:
        _log.error("no upload can be written", extra={"reason": str(error)})
        raise OverloadedError(f"the disk has no room for the {kind.field}", _DISK_SECONDS) from None


async def _body(
    request: HttpRequest, kind: UploadKind, file: IO[bytes], most: int
) -> Sequence[tuple[str, str | bytes]]:
    """Write the file in the body; return the fields that came with it."""
    if request.given.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        raise UnsupportedMediaTypeError(f"the {kind.field} must be sent without Content-Encoding")
    content_type = request.given.get(b"content-type", b"application/octet-stream")
    media_type = content_type.partition(b";")[0].strip().lower()
    if media_type.startswith(kind.media_types):
        buffer = bytearray()
        await _receive(request, buffer.extend, buffer, file, most)
        return []
    if media_type != b"multipart/form-data":
        raise UnsupportedMediaTypeError(
            f"send the {kind.field} as the body, with its own Content-Type, or as the file "
            f"{kind.field!r} of a multipart/form-data form"
        )
    form = _Form(content_type, kind)
    try:
        await _receive(request, form.write, form.file, file, most)
        return form.finished()
    finally:
        form.close()


async def _receive(
    request: HttpRequest,
    take: Callable[[bytes], object],
    buffer: bytearray,
    file: IO[bytes],
    most: int,
) -> None:
    """Pass on the body, and write what is found in `buffer` to the file."""
    await request.before_deadline(_copy(request, take, buffer, file, most))


async def _copy(
    request: HttpRequest,
    take: Callable[[bytes], object],
    buffer: bytearray,
    file: IO[bytes],
    most: int,
) -> None:
    size, more, due = 0, True, _LEAST_PACE
    loop, seconds = asyncio.get_running_loop(), request.context.limits.request_timeout_seconds
    until = loop.time() + seconds
    while more:
        try:
            async with asyncio.timeout_at(until):
                message = await request.receive()
        except TimeoutError:
            request.must_close = True
            detail = f"the body arrives too slowly: less than {_LEAST_PACE} bytes in {seconds:g} s"
            raise RequestTimeoutError(detail) from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        chunk, more = message.get("body", b""), message.get("more_body", False)
        size += len(chunk)
        if size >= due:
            due, until = size + _LEAST_PACE, loop.time() + seconds
        if size > most:
            request.must_close = more
            raise LimitExceededError(f"the body is over the limit of {most} bytes")
        take(chunk)
        if len(buffer) >= _BLOCK or not more:
            block = bytes(buffer)
            buffer.clear()
            await asyncio.to_thread(file.write, block)
    await asyncio.to_thread(file.flush)
    request.record.received = size


@dataclass(eq=False, slots=True)
class _Form:
    """Finds the file and the fields of a multipart form while it arrives."""

    content_type: bytes
    kind: UploadKind
    file: bytearray = field(default_factory=bytearray)
    """Of the file, what has not been written."""
    _fields: list[tuple[str, str | bytes]] = field(default_factory=list)
    _field: bytearray = field(default_factory=bytearray)
    _header: tuple[bytearray, bytearray] = field(default_factory=lambda: (bytearray(), bytearray()))
    _disposition: bytes = b""
    _name: str | None = None
    """Of the field that is read; None while it is the file."""
    _left: int = _MOST_FIELD_BYTES
    _has_file: bool = False
    _has_ended: bool = False
    _parser: MultipartParser | None = None

    def __post_init__(self) -> None:
        boundary = parse_options_header(self.content_type)[1].get(b"boundary")
        if not boundary:
            raise MalformedRequestError("the multipart content type names no boundary")
        try:
            self._parser = MultipartParser(boundary, self._callbacks())
        except FormParserError as error:
            raise MalformedRequestError(f"the form cannot be read: {error}") from None

    def write(self, chunk: bytes) -> None:
        """Parse a part of the body. Raises MalformedRequestError, LimitExceededError."""
        assert self._parser is not None  # noqa: S101 - for mypy
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MalformedRequestError(f"the form cannot be read: {error}") from None

    def finished(self) -> list[tuple[str, str | bytes]]:
        """Return the fields. Raises MalformedRequestError, InvalidInputError."""
        if not self._has_ended:
            raise MalformedRequestError("the form has no end: its last boundary is missing")
        if not self._has_file:
            raise InvalidInputError(f"the form has no file {self.kind.field!r}")
        return self._fields

    def close(self) -> None:
        """Forget the parser, whose callbacks refer to this object."""
        self._parser = None

    def _callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._header[0].extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._header[1].extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_data,
            "on_part_data": self._take,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self._fields) >= _MOST_FIELDS:
            raise LimitExceededError(f"the form has more than {_MOST_FIELDS} fields")
        self._disposition = b""
        self._field.clear()

    def _end_header(self) -> None:
        name, value = self._header
        if name.lower() == b"content-disposition":
            self._disposition = bytes(value)
        name.clear()
        value.clear()

    def _begin_data(self) -> None:
        options = parse_options_header(self._disposition)[1]
        name = options.get(b"name", b"").decode(errors="replace")
        is_file = name in (self.kind.field, "file")
        if is_file and self._has_file:
            raise MalformedRequestError(f"the form has more than one {self.kind.field}")
        self._has_file = self._has_file or is_file
        self._name = None if is_file else name

    def _take(self, data: bytes, start: int, end: int) -> None:
        if self._name is None:
            self.file += data[start:end]
            return
        self._left -= end - start
        if self._left < 0:
            raise LimitExceededError(f"the fields are over the limit of {_MOST_FIELD_BYTES} bytes")
        self._field += data[start:end]

    def _end_part(self) -> None:
        if self._name is not None:
            try:
                self._fields.append((self._name, self._field.decode()))
            except UnicodeDecodeError:
                raise MalformedRequestError("a form field is not UTF-8") from None

    def _end(self) -> None:
        self._has_ended = True
