"""Two levels as one backend: the near one answers at once, the far one is shared."""

from service.cache.base import CacheBackend


class TieredBackend:
    """Memory first, then Redis; what Redis knew is kept in memory; both are written."""

    def __init__(self, near: CacheBackend, far: CacheBackend) -> None:
        self._near, self._far = near, far

    async def get(self, key: str) -> bytes | None:
        """Return the nearest copy, and bring it near."""
        if (value := await self._near.get(key)) is not None:
            return value
        if (value := await self._far.get(key)) is not None:
            await self._near.set(key, value)
        return value

    async def set(self, key: str, value: bytes) -> None:
        """Store in both."""
        await self._near.set(key, value)
        await self._far.set(key, value)

    async def close(self) -> None:
        """Close both."""
        try:
            await self._near.close()
        finally:
            await self._far.close()

    def __repr__(self) -> str:
        return f"<TieredBackend {self._near!r} over {self._far!r}>"
