"""Images as text: base64 and data URIs."""

import binascii
import re
from urllib.parse import unquote

from service.errors import InvalidInputError, UnsupportedMediaTypeError

_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*://", re.IGNORECASE)
_FROM_URL_SAFE = str.maketrans("-_", "+/")


def image_bytes(text: str) -> bytes:
    """Return an image from base64 or a data URI.

    Base64 is read as browsers read it (WHATWG forgiving-base64: white space is ignored, padding may
    be missing), and also in the alphabet for URLs.

    Raises:
        InvalidInputError: the text is an address, or is not base64.
        UnsupportedMediaTypeError: the data URI has a media type that is not an image's.
    """
    text = text.lstrip()
    if text[:5].lower() == "data:":
        text = _data_of_uri(text)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError:
        pass  # the usual form is tried first: the others cost a copy
    return _forgiving(text)


def _data_of_uri(uri: str) -> str:
    head, _, data = uri[5:].partition(",")
    media_type, *parameters = (part.strip() for part in head.lower().split(";"))
    if not (media_type.startswith("image/") or media_type == "application/octet-stream"):
        raise UnsupportedMediaTypeError("the data URI is of no image type")
    if "base64" not in parameters:
        raise InvalidInputError("the data URI is not in base64")
    return unquote(data) if "%" in data else data


def _forgiving(text: str) -> bytes:
    if _ADDRESS.match(text):
        raise InvalidInputError(
            "the image is a URL, and URLs are not fetched: send the image itself, in base64, as a "
            "file of a form or as the raw body"
        )
    if not text.isascii():
        raise InvalidInputError("the image is not base64: there are other characters in it")
    text = "".join(text.split())
    if ("-" in text or "_" in text) and not ("+" in text or "/" in text):
        text = text.translate(_FROM_URL_SAFE)
    if "=" not in text:
        text += "=" * (-len(text) % 4)
    try:
        return binascii.a2b_base64(text, strict_mode=True)
    except ValueError as error:
        raise InvalidInputError(f"the image is not base64: {error}") from None
