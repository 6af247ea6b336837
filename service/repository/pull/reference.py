"""Where a model is pulled from: `hf://org/name@revision`, `s3://bucket/folder` and others."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from service.errors import ModelLoadError
from service.repository.paths import MODEL_NAME

HUB = "hf"
SCHEMES = (HUB, "s3", "gs", "https", "http", "file")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?://)?(.*)", re.DOTALL)
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9_][\w.-]{0,95})?", re.ASCII)
_REVISION = re.compile(r"[A-Za-z0-9_][\w./-]{0,199}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x20\x7f]")


@dataclass(frozen=True, slots=True)
class Reference:
    """A model outside this machine, or a folder to copy."""

    scheme: str
    location: str
    """`org/name` of the Hub, else the whole URL, which may hold a password or a signature."""
    revision: str | None = None
    """Branch, tag or commit, of the Hub only; None means its main branch."""

    @property
    def source(self) -> str:
        """Return the reference without revision, password and query, for logs and records."""
        if self.scheme == HUB:
            return f"{HUB}://{self.location}"
        parts = urlsplit(self.location)
        return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"

    @property
    def name(self) -> str:
        """Return the name of the model if no other is given.

        Raises:
            ModelLoadError: the end of the reference cannot be a model's name.
        """
        name = self.source.rstrip("/").rpartition("/")[2]
        if not MODEL_NAME.fullmatch(name):
            raise ModelLoadError(f"{name!r} cannot be a model's name: give it another")
        return name

    def __str__(self) -> str:
        return self.source if self.revision is None else f"{self.source}@{self.revision}"


def is_reference(text: str) -> bool:
    """Tell whether a text has a scheme; else it is the path of a folder."""
    return "://" in text


def parse_reference(text: str) -> Reference:
    """Return what a text refers to.

    Raises:
        ModelLoadError: it has no scheme, one that is not known, or an impossible name or revision.
    """
    found = _SCHEME.fullmatch(text)
    scheme = found[1].lower() if found and is_reference(text) else None
    if found is None or scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        begin = text.partition("://")[0][:20] if is_reference(text) else text[:100]
        raise ModelLoadError(f"{begin!r} is no source of models; these are: {known}")
    if _CONTROL.search(text):
        raise ModelLoadError(f"a {scheme}:// source must not hold spaces or control characters")
    if scheme == HUB:
        return _of_hub(found[2])
    reference = Reference(scheme, f"{scheme}://{found[2]}")
    if not reference.source.removeprefix(f"{scheme}://").strip("/"):
        raise ModelLoadError(f"{scheme}:// must be followed by the place of a folder")
    return reference


def _of_hub(rest: str) -> Reference:
    name, at, revision = rest.strip("/").partition("@")
    if not _HUB_NAME.fullmatch(name) or ".." in name:
        raise ModelLoadError(f"hf://{name[:100]} is no model's name: write hf://org/name")
    if at and (not _REVISION.fullmatch(revision) or ".." in revision):
        raise ModelLoadError(f"{revision[:100]!r} cannot be a revision: a branch, tag or commit")
    return Reference(HUB, name, revision or None)
