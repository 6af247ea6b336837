"""Addresses of live sources, and which of them may be opened."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self
from urllib.parse import SplitResult, unquote, urlsplit

from service.errors import ForbiddenError, InvalidInputError

_PORTS = {"rtsp": 554, "http": 80, "https": 443, "file": None}
_MOST_CHARACTERS = 2048
_SETTING = "streams.sources"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a live source is. Its text shows neither user, password nor query."""

    scheme: str
    host: str
    port: int | None
    path: str
    query: str = field(default="", repr=False)
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL. Raises InvalidInputError, without the URL, which may hold a password."""
        if len(url) > _MOST_CHARACTERS:
            raise InvalidInputError(f"url is longer than {_MOST_CHARACTERS} characters")
        if not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
            raise InvalidInputError("url has a character that must be written as %XX")
        try:
            parts = urlsplit(url)
            address = cls._of(parts)
        except ValueError:
            raise InvalidInputError("url is not a URL") from None
        if {".", ".."} & set(unquote(address.path).replace("\\", "/").split("/")):
            raise InvalidInputError("the path of url must not contain . or ..")
        return address

    @classmethod
    def _of(cls, parts: SplitResult) -> Self:
        scheme, host = parts.scheme.lower(), parts.hostname or ""
        if scheme not in _PORTS:
            raise InvalidInputError("url must begin with rtsp://, http://, https:// or file://")
        if (scheme == "file") == bool(host) or parts.fragment:
            raise ValueError
        if scheme == "file":
            return cls(scheme, "", None, parts.path)
        user = None if parts.username is None else unquote(parts.username)
        password = None if parts.password is None else unquote(parts.password)
        port = parts.port or _PORTS[scheme]
        return cls(scheme, host, port, parts.path or "/", parts.query, user, password)

    @property
    def file(self) -> Path:
        """Return the file, all links followed."""
        return Path(unquote(self.path)).resolve()

    def includes(self, other: "Address") -> bool:
        """Return whether another address is this one or lies below it."""
        if (self.scheme, self.host, self.port) != (other.scheme, other.host, other.port):
            return False
        if self.scheme == "file":
            return other.file.is_relative_to(self.file)
        return other.path == self.path or other.path.startswith(self.path.rstrip("/") + "/")


class AllowedSources:
    """The addresses that may be opened, and all that lie below them."""

    def __init__(self, urls: Sequence[str] = ()) -> None:
        """Read the setting.

        Raises:
            ValueError: one of the addresses is not valid, or has a password or a query.
        """
        self._allowed = []
        for place, url in enumerate(urls):
            try:
                address = Address.parse(url)
            except InvalidInputError as error:
                raise ValueError(f"{_SETTING}[{place}]: {error}") from None
            if address.query or address.user is not None:
                raise ValueError(f"{_SETTING}[{place}] must have no user, password or query")
            self._allowed.append(address)

    def checked(self, url: str) -> Address:
        """Return the address of a source.

        Raises:
            InvalidInputError: it is not a valid address.
            ForbiddenError: it may not be opened.
        """
        if not self._allowed:
            raise ForbiddenError(f"live streams are disabled: the setting {_SETTING} is empty")
        address = Address.parse(url)
        if not any(allowed.includes(address) for allowed in self._allowed):
            raise ForbiddenError(f"{address} is not below an address of the setting {_SETTING}")
        return address
