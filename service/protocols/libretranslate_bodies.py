"""Bodies of LibreTranslate's requests and responses."""

from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, Field, RootModel

from service.api.content import as_text, check_count, each
from service.api.errors import MalformedRequestError
from service.errors import LimitExceededError, ServiceError
from service.protocols.protocol import ProtocolBody
from service.requests.admission import ApiLimits
from service.tasks import TranslateItem

_BEAMS = 4
"""Hypotheses of a search for a few alternatives."""
_MOST_ALTERNATIVES = 7


class LibreTranslateError(BaseModel):
    """An error in LibreTranslate's shape."""

    error: str


class LibreTranslateBody(ProtocolBody):
    """A text or several, and the languages to translate from and to."""

    q: str | list[Any] | None = Field(None, description="A text, or a list of texts.")
    source: str | None = Field(None, description="Language of the texts; auto detects it.")
    target: str | None = Field(None, description="Language to translate to.")
    format: Literal["text", "html"] | None = None
    alternatives: int | None = Field(
        None, ge=0, le=_MOST_ALTERNATIVES, description="How many other translations to return."
    )
    api_key: str | None = None

    def items(self, limits: ApiLimits) -> Sequence[TranslateItem | ServiceError | None]:
        """Return the items; None for a text without words. Raises ServiceError."""
        for name in ("q", "source", "target"):
            if not getattr(self, name):
                raise MalformedRequestError(f"Invalid request: missing {name} parameter")
        texts = self.texts
        check_count(len(texts), limits)
        most = limits.max_document_characters
        if (length := sum(len(text) for text in texts if isinstance(text, str))) > most:
            raise LimitExceededError(f"{length} characters are over the limit of {most}")
        count = 0 if self.format == "html" else self.alternatives or 0
        return each(texts, lambda text: _item(text, count, limits))

    @property
    def texts(self) -> Sequence[Any]:
        """Return the texts of the request."""
        return self.q if isinstance(self.q, list) else [self.q]


class LibreTranslateDetection(BaseModel):
    """A language that a text may be in."""

    language: str
    confidence: float = Field(description="From 0 to 100.")


class LibreTranslateTranslation(BaseModel):
    """One translation, or a list of them if `q` is a list."""

    translatedText: str | list[str]  # noqa: N815 - the name of the protocol
    detectedLanguage: LibreTranslateDetection | list[LibreTranslateDetection] | None = None  # noqa: N815
    alternatives: list[str] | list[list[str]] | None = None


class LibreTranslateDetectBody(ProtocolBody):
    """A text."""

    q: str | None = None
    api_key: str | None = None


class LibreTranslateDetections(RootModel[list[LibreTranslateDetection]]):
    """The languages that the text may be in, the most likely first."""


class LibreTranslateLanguage(BaseModel):
    """A language, and what it is translated to."""

    code: str
    name: str
    targets: list[str]


class LibreTranslateLanguages(RootModel[list[LibreTranslateLanguage]]):
    """The languages of the translators that serve."""


class LibreTranslateSettings(BaseModel):
    """What a page that translates has to know."""

    charLimit: int  # noqa: N815 - the names of the protocol
    keyRequired: bool  # noqa: N815
    apiKeys: bool  # noqa: N815
    suggestions: bool
    filesTranslation: bool  # noqa: N815
    supportedFilesFormat: list[str]  # noqa: N815
    frontendTimeout: int  # noqa: N815
    language: dict[str, dict[str, str]]


def _item(text: object, alternatives: int, limits: ApiLimits) -> TranslateItem | None:
    """Return the item for a text; None if it is blank. Raises InvalidInputError."""
    if isinstance(text, str) and (not text or text.isspace()):
        return None
    valid = as_text(text, limits, most=limits.max_document_characters).text
    if not alternatives or "\n" in valid.strip():  # the lines of a text have none together
        return TranslateItem(valid)
    count = alternatives + 1
    return TranslateItem(valid, num_beams=max(count, _BEAMS), alternatives=count)
