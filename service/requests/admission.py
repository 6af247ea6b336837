"""How much a request may ask for, and all of them together."""

from dataclasses import dataclass

from service.telemetry.metrics import HTTP_BODIES_REFUSED, HTTP_BODY_BYTES


@dataclass(slots=True)
class BodyRoom:
    """Counts bytes, so that many large bodies at once are refused and do not take all memory."""

    held: int = 0

    def take(self, size: int, most: int) -> bool:
        """Count more bytes; False, and nothing is counted, if they would be over the most."""
        if self.held + size > most:
            HTTP_BODIES_REFUSED.inc()
            return False
        self.held += size
        HTTP_BODY_BYTES.set(self.held)
        return True

    def give_back(self, size: int) -> None:
        """Count bytes no longer."""
        self.held -= size
        HTTP_BODY_BYTES.set(self.held)


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """The limits of the HTTP border; every one is on by default."""

    max_body_bytes: int = 16 * 1024 * 1024
    max_bodies_bytes: int = 256 * 1024 * 1024
    """Of all bodies at once."""
    max_items: int = 64
    """Items of one request, texts and images together."""
    max_characters: int = 20_000
    """Of one text."""
    max_pixels: int = 50_000_000
    """Of one decoded image; kept by the families, which decode."""
    max_json_depth: int = 32
    request_timeout_seconds: float = 30.0
    """Deadline of a request that names none."""
    max_timeout_seconds: float = 120.0
    """Longest deadline a caller may ask for; a longer wish is shortened to this."""
    max_document_characters: int = 500_000
    """Of all texts that one request wants translated piece by piece."""
    max_segments: int = 10_000
    """Pieces, lines or sentences, of one request."""
    stream_timeout_seconds: float = 600.0
    """Deadline of a stream that names none, and the longest that one may ask for."""

    @property
    def max_json_values(self) -> int:
        """Return how many values a JSON body may hold; no valid one comes near it."""
        return 4 * self.max_items + 256
