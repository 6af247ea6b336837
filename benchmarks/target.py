"""Where load goes, and what it says."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.subjects import Subject

HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Target:
    """Requests ready to be sent, in turn, to one address."""

    port: int
    route: str
    content_type: str
    bodies: Path
    """A folder of files 1, 2, 3 ...: so that every generator can read them."""
    count: int
    headers: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(
        cls, subject: Subject, port: int, folder: Path, headers: Mapping[str, str] | None = None
    ) -> "Target":
        """Write a subject's requests to `folder`."""
        bodies = subject.bodies
        folder.mkdir(parents=True, exist_ok=True)
        for number, body in enumerate(bodies, 1):
            (folder / str(number)).write_bytes(body)
        return cls(port, subject.route, subject.content_type, folder, len(bodies), headers or {})

    def all_headers(self) -> Mapping[str, str]:
        """Return the headers of every request but Host and Content-Length."""
        return {"Content-Type": self.content_type, **self.headers}

    def requests(self) -> Sequence[bytes]:
        """Return whole HTTP/1.1 requests."""
        lines = [f"POST {self.route} HTTP/1.1", f"Host: {HOST}:{self.port}"]
        lines += [f"{name}: {value}" for name, value in self.all_headers().items()]
        found = []
        for number in range(1, self.count + 1):
            body = (self.bodies / str(number)).read_bytes()
            head = "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""])
            found.append(head.encode("latin-1") + body)
        return found
