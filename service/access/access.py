"""Which keys are known, as the keys file says it now."""

import asyncio
import hmac
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from service.access.caller import Caller, SharedCounts
from service.access.counts import Counts
from service.access.key import Key
from service.access.keys_file import KeysFileError, digest_of, read_keys
from service.access.watched_files import LOOK_SECONDS, WatchedFiles
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

_log = logging.getLogger(__name__)


class Access:
    """Finds the caller of a key. Every request is refused without a known one."""

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
        self._file, self._shared, self._processes = file, shared, processes
        self._counts: dict[str, Counts] = {}
        self._callers: Mapping[bytes, Caller] = {}
        self._administrator: Key | None = None
        if admin_token:
            digest = digest_of(admin_token.encode())
            self._administrator = Key(ADMINISTRATOR, (digest,), is_admin=True)
        self._files = WatchedFiles(file)
        self._use(read_keys(file))

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

    async def watch(self, pause: float = LOOK_SECONDS) -> None:
        """Read the file again whenever it has changed. Runs until cancelled."""
        await self._files.watch(self.look, pause)

    async def look(self) -> None:
        """Read the file if it has changed."""
        if not await self._files.have_changed():
            return
        try:
            self._use(await asyncio.to_thread(read_keys, self._file))
        except KeysFileError as error:
            ACCESS_KEYS_FILE_BROKEN.set(1)
            _log.error("the keys file cannot be used, the previous keys stay valid: %s", error)
        else:
            _log.info("keys file read", extra={"keys": len(self._counts)})

    def _use(self, keys: Sequence[Key]) -> None:
        self._counts = {key.name: self._counts.get(key.name) or Counts() for key in keys}
        keys = [key.part(self._processes) for key in keys]
        callers = [Caller(key, self._counts[key.name], self._shared) for key in keys]
        if self._administrator is not None:
            callers.append(Caller(self._administrator, Counts()))
        self._callers = {digest: each for each in callers for digest in each.key.digests}
        ACCESS_KEYS.set(len(keys))
        ACCESS_KEYS_FILE_BROKEN.set(0)


def _unauthorized(sentence: str) -> UnauthorizedError:
    ACCESS_REFUSALS.labels(UNKNOWN_KEY, UnauthorizedError.code).inc()
    return UnauthorizedError(sentence)
