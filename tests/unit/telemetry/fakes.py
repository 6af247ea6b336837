"""A request that has ended, as the HTTP border would have it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from service.telemetry.timings import Timings
from service.types import ModelIdentity

SECOND = 1_000_000_000


@dataclass
class Ended:
    """One classified headline: read after 1 ms, answered after 10."""

    request_id: str = "mine-1"
    status: int = 200
    code: str = "ok"
    detail: str = ""
    model: ModelIdentity | None = field(default=ModelIdentity("news-topics", 2, "digest"))
    item_count: int = 1
    segment_count: int = 0
    first_seconds: float | None = None
    cache: str | None = "miss"
    received: int = 42
    sent: int = 113
    started: float = 100.0
    read_at: float = 100.001
    timings: Timings | None = field(
        default_factory=lambda: Timings(0.0005, 0.001, 0.002, 0.004, 0.0001)
    )
    headers: Mapping[str, str] = field(default_factory=dict)
    method: str = "POST"

    @property
    def scope(self) -> Mapping[str, Any]:
        return {
            "type": "http",
            "method": self.method,
            "path": "/v1/secret",
            "query_string": b"token=secret",
            "scheme": "http",
            "http_version": "1.1",
            "headers": [(name.encode(), value.encode()) for name, value in self.headers.items()],
        }
