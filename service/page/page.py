"""The page at `/` on which anybody can try the tasks, and the files that it loads.

All of it is in this package, so it works without network. The files are read once; their entity
tags are digests of their content, so every replica gives the same and a browser asks only for
what has changed.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import blake2b
from importlib.resources import files
from importlib.resources.abc import Traversable

from starlette.exceptions import HTTPException

from service.api.errors import Header
from service.api.http_request import HttpRequest
from service.api.replies import Reply
from service.api.route import DirectRoute

INDEX = "index.html"
SAMPLES = "samples/"

CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob:",
        "media-src 'self' blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
)

_SECURITY: Sequence[Header] = (
    (b"content-security-policy", CONTENT_SECURITY_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)
_KINDS: Mapping[str, bytes] = {
    ".html": b"text/html; charset=utf-8",
    ".css": b"text/css; charset=utf-8",
    ".js": b"text/javascript; charset=utf-8",
    ".json": b"application/json",
    ".svg": b"image/svg+xml",
    ".png": b"image/png",
    ".jpg": b"image/jpeg",
    ".mp4": b"video/mp4",
    ".txt": b"text/plain; charset=utf-8",
}
"""Media types of the served files, by suffix; other files are not served."""

_VARY = (b"vary", b"accept")
_ALIVE = b'{"status":"alive"}'
"""What KServe's client reads."""
_ASK_AGAIN, _KEEP_AN_HOUR = b"no-cache", b"max-age=3600"


@dataclass(frozen=True, slots=True)
class PageFile:
    """One file of the page, with what every answer about it says."""

    body: bytes
    content_type: bytes
    cache_control: bytes

    @property
    def entity_tag(self) -> bytes:
        """Return a tag that is the same exactly as long as the content is."""
        return b'"%s"' % blake2b(self.body, digest_size=12).hexdigest().encode()

    def reply(self, if_none_match: bytes) -> Reply:
        """Return the file, or 304 to who says that they have it."""
        tag = self.entity_tag
        headers = [(b"etag", tag), (b"cache-control", self.cache_control), *_SECURITY]
        reply = Reply(self.body, 200, self.content_type, headers)
        if _names(if_none_match, tag):
            reply.status_code, reply.body, reply.raw_headers = 304, b"", headers
        return reply


def page_routes() -> Sequence[DirectRoute]:
    """Return the page and its files. Its links are relative: it may stand behind a prefix."""
    return [
        DirectRoute("/", show_page, "none", methods=["GET"], include_in_schema=False),
        DirectRoute(
            "/page/{name:path}", show_file, "none", methods=["GET"], include_in_schema=False
        ),
    ]


async def show_page(request: HttpRequest) -> Reply:
    """Show the page to a browser; clients of other services take this path for a probe."""
    if b"text/html" not in request.given.get(b"accept", b""):
        return Reply(_ALIVE, headers=[_VARY])
    reply = page_files()[INDEX].reply(request.given.get(b"if-none-match", b""))
    reply.raw_headers.append(_VARY)
    return reply


async def show_file(request: HttpRequest) -> Reply:
    """Show a file that the page loads. Raises HTTPException for any other name."""
    found = page_files().get(request.path_params["name"])
    if found is None:
        raise HTTPException(404)
    return found.reply(request.given.get(b"if-none-match", b""))


@cache
def page_files() -> Mapping[str, PageFile]:
    """Return every file of the page by its name in a URL."""
    package = files("service.page")
    assets = {
        name: PageFile(body, kind, _ASK_AGAIN) for name, body, kind in _walk(package / "assets", "")
    }
    samples = {
        name: PageFile(body, kind, _KEEP_AN_HOUR)
        for name, body, kind in _walk(package / "samples", SAMPLES)
    }
    return assets | samples


def _walk(folder: Traversable, prefix: str) -> Iterator[tuple[str, bytes, bytes]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _walk(entry, f"{prefix}{entry.name}/")
            continue
        if not entry.is_file():  # a link to a document that is not installed
            continue
        kind = _KINDS.get(entry.name[entry.name.rfind(".") :])
        if kind is not None:
            yield f"{prefix}{entry.name}", entry.read_bytes(), kind


def _names(if_none_match: bytes, tag: bytes) -> bool:
    """Return whether the header is `*` or lists the tag, strong or weak."""
    listed = (each.strip().removeprefix(b"W/") for each in if_none_match.split(b","))
    return any(each in (tag, b"*") for each in listed)
