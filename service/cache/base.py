"""What a cache backend must offer."""

from typing import Protocol


class CacheBackend(Protocol):
    """Bytes by key. An unreachable backend is a miss, never an error.

    Its `repr` says how it is doing, for logs and tests.
    """

    async def get(self, key: str) -> bytes | None:
        """Return the stored bytes, or None on a miss or a fault. Never raises."""
        ...

    async def set(self, key: str, value: bytes) -> None:
        """Store as well as it can be done without waiting for anything. Never raises."""
        ...

    async def close(self) -> None:
        """Give everything back. Afterwards every `get` misses; closing twice is allowed."""
        ...


class NullBackend:
    """Always misses. What `backend = "none"` means."""

    async def get(self, key: str) -> bytes | None:
        """Miss."""
        return None

    async def set(self, key: str, value: bytes) -> None:
        """Forget."""

    async def close(self) -> None:
        """Do nothing."""

    def __repr__(self) -> str:
        return "<NullBackend>"
