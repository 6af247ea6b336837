"""Which keys are known, as the keys file says it now."""

import hmac
from collections.abc import Mapping, Sequence
from pathlib import Path

from typing_extensions import override

from service.access.caller import Caller, SharedCounts
from service.access.counts import Counts
from service.access.key import Key
from service.access.keys_file import digest_of, read_keys
from service.access.watched_files import WatchedFiles
from service.errors import UnauthorizedError
from service.telemetry.request_metrics import (
    ACCESS_KEYS,
    ACCESS_KEYS_FILE_BROKEN,
    ACCESS_REFUSALS,
    UNKNOWN_KEY,
)

ADMINISTRATOR = "_admin_"
"""Name of the caller that sends the administrator's token. No entry of a file has this name."""

_LONGEST_KEY = 512
"""Bytes of a key; a longer one is refused without hashing it."""


class Access(WatchedFiles[Sequence[Key]]):
    """Finds the caller of a key. Every request is refused without a known one."""

    name, broken = "the keys file", ACCESS_KEYS_FILE_BROKEN

    def __init__(
        self,
        file: Path,
        admin_token: str | None = None,
        shared: SharedCounts | None = None,
        processes: int = 1,
    ) -> None:
        """Read the file.

        Args:
            file: the keys file.
            admin_token: also accepted as a key, which may do everything.
            shared: counts of limits that several processes share.
            processes: that share the limits of a key in equal parts.

        Raises:
            KeysFileError: the file cannot be read, or is not valid.
        """
        self._shared, self._processes = shared, processes
        self._counts: dict[str, Counts] = {}
        self._callers: Mapping[bytes, Caller] = {}
        self._administrator: Key | None = None
        if admin_token:
            digest = digest_of(admin_token.encode())
            self._administrator = Key(ADMINISTRATOR, (digest,), is_admin=True)
        super().__init__(file)

    def __repr__(self) -> str:
        return f"<Access {len(self._callers)} keys>"

    def caller(self, key: bytes | str | None) -> Caller:
        """Return the owner of a key.

        The time to find it does not depend on how much of a key is right: its hash is looked up.

        Raises:
            UnauthorizedError: there is no key, or it is not known.
        """
        if not key:
            raise _unauthorized("send a key, as Authorization: Bearer KEY or X-API-Key: KEY")
        given = key.encode("utf-8", "surrogatepass") if isinstance(key, str) else key
        if len(given) <= _LONGEST_KEY:
            digest = digest_of(given)
            found = self._callers.get(digest)
            if found is not None and any(
                hmac.compare_digest(digest, known) for known in found.key.digests
            ):
                return found
        raise _unauthorized("the key is not known")

    @override
    def read(self) -> Sequence[Key]:
        return read_keys(*self.files)

    @override
    def use(self, content: Sequence[Key]) -> None:
        self._counts = {key.name: self._counts.get(key.name) or Counts() for key in content}
        keys = [key.part(self._processes) for key in content]
        callers = [Caller(key, self._counts[key.name], self._shared) for key in keys]
        if self._administrator is not None:
            callers.append(Caller(self._administrator, Counts()))
        self._callers = {digest: each for each in callers for digest in each.key.digests}
        ACCESS_KEYS.set(len(keys))


def _unauthorized(sentence: str) -> UnauthorizedError:
    ACCESS_REFUSALS.labels(UNKNOWN_KEY, UnauthorizedError.code).inc()
    return UnauthorizedError(sentence)
