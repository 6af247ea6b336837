"""The service with all of its starter models: how it starts, what it keeps, what it burns."""

import json
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.results import StartersResult
from benchmarks.servers import Server

_SETTLE_SECONDS = 2.0


def measure_starters(
    repository: Path, log: Path, starts: int, idle_seconds: float
) -> StartersResult:
    """Start the service several times; then ask every golden item, and leave it alone."""
    ready: list[float] = []
    for _ in range(starts - 1):
        with Server.quartet(repository, log) as quartet:
            ready.append(quartet.wait_ready())
    with Server.quartet(repository, log) as quartet:
        ready.append(quartet.wait_ready())
        ready_memory = quartet.memory()
        for path, content_type, body in golden_requests(repository):
            quartet.post(path, body, {"Content-Type": content_type})
        used_memory = quartet.memory()
        quartet.cpu_share(_SETTLE_SECONDS)
        idle = quartet.cpu_share(idle_seconds)
    return StartersResult(models(repository), ready, ready_memory, used_memory, idle)


def models(repository: Path) -> Sequence[str]:
    """Return the names of the models in a repository."""
    return sorted({path.parent.parent.name for path in repository.glob("*/*/model.toml")})


def golden_requests(repository: Path) -> Iterator[tuple[str, str, bytes]]:
    """Yield path, content type and body of a request for every golden item."""
    for manifest in sorted(repository.glob("*/*/model.toml")):
        task, folder = _task(manifest), manifest.parent
        name = folder.parent.name
        goldens = folder / "goldens.json"
        items = json.loads(goldens.read_text(encoding="utf-8"))["items"] if goldens.exists() else []
        for golden in items:
            item = golden["item"]
            if "image" in item:
                image = folder / item["image"]
                kind = "image/png" if image.suffix == ".png" else "image/jpeg"
                yield f"/v1/{task}?model={name}", kind, image.read_bytes()
            else:
                body = json.dumps({"model": name, "text": item["text"]}).encode()
                yield f"/v1/{task}", "application/json", body


def _task(manifest: Path) -> str:
    return str(tomllib.loads(manifest.read_text(encoding="utf-8"))["task"])
