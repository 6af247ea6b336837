"""Limits of one request, and of the bodies of all requests together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from service.errors import OverloadedError
from service.telemetry.request_metrics import HTTP_BODIES_REFUSED, HTTP_BODY_BYTES
from service.telemetry.video_metrics import VIDEOS

MOST_LABELS = 1_000
"""Labels that a request may give."""

# `Retry-After` of a process that analyses as many videos as it may.
_VIDEO_SECONDS = 5.0


@dataclass(slots=True)
class BodyRoom:
    """Counts the bytes of large bodies, so that many at once do not take all memory."""

    held: int = 0

    def take(self, size: int, most: int) -> bool:
        """Count `size` more bytes; return False, and count nothing, if they exceed `most`."""
        if self.held + size > most:
            HTTP_BODIES_REFUSED.inc()
            return False
        self.held += size
        HTTP_BODY_BYTES.set(self.held)
        return True

    def give_back(self, size: int) -> None:
        """Stop counting `size` bytes."""
        self.held -= size
        HTTP_BODY_BYTES.set(self.held)


@dataclass(slots=True)
class VideoRoom:
    """Counts the videos that are received or analysed, and the threads that decode them.

    A thread may go on for some seconds after its client has left, to the end of what it decodes.
    """

    held: int = 0
    threads: int = 0

    def take(self, most: int) -> None:
        """Count one more video.

        Raises:
            OverloadedError: there are as many as allowed, or twice as many threads.
        """
        if self.held >= most or self.threads >= 2 * most:
            raise OverloadedError(f"{most} videos are analysed already", _VIDEO_SECONDS)
        self.held += 1
        VIDEOS.set(self.held)

    def give_back(self) -> None:
        """Count one less."""
        self.held -= 1
        VIDEOS.set(self.held)

    def begin_thread(self) -> Callable[[], None]:
        """Count one more thread. Call what is returned when it has ended."""
        self.threads += 1
        return self._end_thread

    def _end_thread(self) -> None:
        self.threads -= 1


@dataclass(frozen=True, slots=True)
class ApiLimits:
    """Limits of a request. All are on by default."""

    max_body_bytes: int = 16 * 1024 * 1024
    max_bodies_bytes: int = 256 * 1024 * 1024
    """Large bodies of all requests together."""
    min_compress_bytes: int = 1024
    """Of an answer that is compressed if its client accepts that; 0 means none."""
    max_items: int = 64
    """Items of one request, texts and images together."""
    max_characters: int = 20_000
    """Characters of one text."""
    max_pixels: int = 50_000_000
    """Pixels of one decoded image. The families check it when they decode."""
    max_json_depth: int = 32
    request_timeout_seconds: float = 30.0
    """Default deadline of a request."""
    max_timeout_seconds: float = 120.0
    """Longest deadline of a request; a longer one is reduced to it."""
    max_document_characters: int = 500_000
    """Characters of all texts of a request that are split into segments."""
    max_segments: int = 10_000
    """Segments (lines or sentences) of one request."""
    stream_timeout_seconds: float = 600.0
    """Default and longest deadline of a stream."""
    max_video_bytes: int = 512 * 1024 * 1024
    """Of one video file."""
    max_videos: int = 4
    """Videos that are received or analysed at the same time."""
    max_streams: int = 8
    """Live streams at the same time."""
    video_folder: Path | None = None
    """Where video files lie while they are analysed; None is the system's folder for these."""

    @property
    def max_json_values(self) -> int:
        """Return how many values a JSON body may have; no valid request has nearly as many."""
        return 4 * self.max_items + MOST_LABELS + 256
