"""How old the frames of live streams are when their results are there.

    python -m benchmarks.live_streams [--streams 8] [--rate 10] [--seconds 30]

Starts the service on the starter `cards`, and as many cameras on this machine: servers of MJPEG
over HTTP that send the frames of the sample clip, encoded beforehand, at their rate. The age of a
frame counts from its reception to its result, as events tell it.
"""

import argparse
import io
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import av
import httpx
import numpy as np
import orjson

from benchmarks.machine import describe

ROOT = Path(__file__).parents[1]
_CLIP = ROOT / "service" / "page" / "samples" / "cards.mp4"
_WARM_SECONDS = 5.0
_READY_SECONDS = 120.0


@dataclass(slots=True)
class Seen:
    """What the readers of all streams saw."""

    ages: list[float] = field(default_factory=list)
    dropped: int = 0


class _Camera(BaseHTTPRequestHandler):
    frames: ClassVar[Sequence[bytes]] = ()
    rate: ClassVar[float]

    def do_GET(self) -> None:
        """Send frames until the client leaves."""
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        due, number = time.monotonic(), secrets.randbelow(len(self.frames))
        while True:
            frame = self.frames[number % len(self.frames)]
            head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(frame)}\r\n\r\n"
            try:
                self.wfile.write(head.encode() + frame + b"\r\n")
            except OSError:
                return
            due, number = due + 1 / self.rate, number + 1
            time.sleep(max(0.0, due - time.monotonic()))

    def log_message(self, *_: object) -> None:
        """Keep the terminal for the result."""


def _jpegs() -> list[bytes]:
    found = []
    with av.open(str(_CLIP)) as container:
        for frame in container.decode(video=0):
            buffer = io.BytesIO()
            frame.to_image().save(buffer, "JPEG", quality=85)
            found.append(buffer.getvalue())
    return found


@contextmanager
def _cameras(count: int, rate: float) -> Iterator[list[str]]:
    """Serve cameras; yield their addresses."""
    _Camera.frames, _Camera.rate = _jpegs(), rate
    with ThreadingHTTPServer(("127.0.0.1", 0), _Camera) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield [f"http://127.0.0.1:{server.server_port}/{number}" for number in range(count)]
        server.shutdown()


@contextmanager
def _service(sources: Sequence[str]) -> Iterator[httpx.Client]:
    """Run the service; yield a client of its administrator."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port, token = free.getsockname()[1], secrets.token_hex()
    command = [sys.executable, "-m", "service", "serve", "--server.port", str(port)]
    command += ["--models.only=cards", f"--streams.sources={','.join(sources)}"]
    command += [f"--limits.max-streams={len(sources)}"]
    environment = {**os.environ, "QUARTET_ADMIN__TOKEN": token}
    process = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    headers = {"Authorization": f"Bearer {token}", "Accept": "application/x-ndjson"}
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client:
            _wait(client)
            yield client
    finally:
        process.terminate()
        process.wait(30)


def _wait(client: httpx.Client) -> None:
    patience = time.monotonic() + _READY_SECONDS
    while time.monotonic() < patience:
        try:
            if client.get("/health/ready").is_success:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.2)
    raise TimeoutError("the service is not ready")


def _read(client: httpx.Client, stream: str, begins: float, ends: float, seen: Seen) -> None:
    with client.stream("GET", f"/v1/streams/{stream}/events", timeout=30) as response:
        for line in response.iter_lines():
            event, now = orjson.loads(line), time.monotonic()
            if now > ends:
                return
            if event["event"] == "frame" and now > begins:
                seen.ages.append(event["age"])
                seen.dropped += event["dropped"]


def measure(streams: int, rate: float, seconds: float) -> Seen:
    """Analyse streams for a while."""
    seen = Seen()
    with _cameras(streams, rate) as sources, _service(sources) as client:
        ids = []
        for source in sources:
            response = client.post("/v1/streams", json={"url": source}, timeout=60)
            response.raise_for_status()
            ids.append(response.json()["id"])
        begins = time.monotonic() + _WARM_SECONDS
        readers = [
            threading.Thread(target=_read, args=(client, one, begins, begins + seconds, seen))
            for one in ids
        ]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
    return seen


def main() -> int:
    """Print a table."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.live_streams",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--streams", type=int, default=8)
    parser.add_argument("--rate", type=float, default=10.0)
    parser.add_argument("--seconds", type=float, default=30.0)
    asked = parser.parse_args()
    machine = describe()
    seen = measure(asked.streams, asked.rate, asked.seconds)
    p50, p95, p99 = 1e3 * np.percentile(seen.ages, (50, 95, 99))
    offered = asked.streams * asked.rate
    analysed = len(seen.ages) / asked.seconds
    sys.stdout.write(
        f"{machine['processor']}, {machine['cores']} cores\n\n"
        "| streams | frames/s | analysed/s | dropped | p50 ms | p95 ms | p99 ms |\n"
        f"|{' --- |' * 7}\n"
        f"| {asked.streams} | {offered:g} | {analysed:.1f} | "
        f"{seen.dropped / max(len(seen.ages) + seen.dropped, 1):.0%} | "
        f"{p50:.0f} | {p95:.0f} | {p99:.0f} |\n"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
