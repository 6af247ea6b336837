"""Requests that ended the processes which computed them are refused for a while."""

import hashlib
import time
from collections.abc import Callable, Mapping

from service.errors import InferenceError

REFUSED_SECONDS = 60.0
MOST_REFUSED = 1024
"""Requests that are remembered; the oldest are forgotten."""


class Refused:
    """Digests of requests, each with the time until which it is refused."""

    def __init__(self, known: Mapping[str, float]) -> None:
        self._until = dict(known)
        """In order of time, of the monotonic clock that all processes share."""

    def __bool__(self) -> bool:
        return bool(self._until)

    def now(self) -> Mapping[str, float]:
        """Return what is refused now."""
        self._forget()
        return dict(self._until)

    def add(self, digest: str) -> None:
        """Refuse requests of this digest from now on."""
        self._until.pop(digest, None)
        self._until[digest] = time.monotonic() + REFUSED_SECONDS
        self._forget()

    def has(self, digest: str) -> bool:
        """Tell whether requests of this digest are refused."""
        self._forget()
        return digest in self._until

    def _forget(self) -> None:
        now = time.monotonic()
        while self._until:
            first = next(iter(self._until))
            if self._until[first] > now and len(self._until) <= MOST_REFUSED:
                return
            del self._until[first]


class WorkerQuarantine:
    """What a worker refuses, and sends to all others."""

    def __init__(self, known: Mapping[str, float], tell: Callable[[str], None]) -> None:
        """Take what is refused already, and what tells the supervisor of a digest."""
        self.refused = Refused(known)
        self._tell = tell

    def check(self, path: str, body: bytes, is_guilty: bool) -> None:
        """Raise InferenceError for a request that has ended processes.

        Args:
            path: of the request.
            body: as it was received, decompressed.
            is_guilty: whether this very request has.
        """
        if not (is_guilty or self.refused):
            return
        digest = hashlib.blake2b(path.encode() + b"\0" + body, digest_size=16).hexdigest()
        if is_guilty:
            self.refused.add(digest)
            self._tell(digest)
        if self.refused.has(digest):
            raise InferenceError("the processes that computed this request have ended")
