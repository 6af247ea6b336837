"""Live sources on this machine: servers of HTTP and RTSP whose frames tell their number."""

import itertools
import socketserver
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from numpy.typing import NDArray

from tests.clips import STEP

TICKS = 90_000
Picture = Callable[[int], NDArray[np.uint8]]


def grey(number: int) -> NDArray[np.uint8]:
    """Return frame n of the sources, as `tests.clips` makes it."""
    return np.full((48, 64, 3), STEP * number % 256, np.uint8)


@dataclass(eq=False)
class Camera:
    """What a source sends, and how long."""

    rate: float = 10.0
    frames: int | None = None
    """After which the source hangs up; None never."""
    picture: Picture = grey
    container: str = "mpegts"
    codec: str = "mpeg4"
    is_stuck: threading.Event = field(default_factory=threading.Event)
    """While set, connected sources send nothing."""
    is_off: threading.Event = field(default_factory=threading.Event)
    """While set, the source refuses connections and ends those it has."""
    redirect: str | None = None
    """Where it says that it is now."""
    connections: int = 0
    requests: list[str] = field(default_factory=list)

    def packets(self, options: dict[str, str] | None = None) -> Iterator[bytes]:
        """Encode frames at their pace."""
        sink = _Sink()
        with av.open(sink, "w", format=self.container, options=options or {}) as output:
            first = self.picture(0)
            stream: Any = output.add_stream(self.codec, rate=round(self.rate))
            stream.height, stream.width = first.shape[:2]
            stream.pix_fmt = "yuvj420p" if self.codec == "mjpeg" else "yuv420p"
            stream.codec_context.gop_size = 5
            stream.codec_context.bit_rate = 4_000_000
            began = time.monotonic()
            for number in itertools.count():
                if number == self.frames or self.is_off.is_set():
                    return
                frame = av.VideoFrame.from_ndarray(self.picture(number), format="rgb24")
                frame.pts, frame.time_base = round(TICKS * number / self.rate), Fraction(1, TICKS)
                output.mux(stream.encode(frame))
                yield from sink.taken()
                time.sleep(max(0.0, began + (number + 1) / self.rate - time.monotonic()))
                while self.is_stuck.is_set() and not self.is_off.is_set():
                    time.sleep(0.01)


class _Sink:
    def __init__(self) -> None:
        self._written: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._written.append(bytes(data))
        return len(data)

    def taken(self) -> list[bytes]:
        written, self._written = self._written, []
        return written


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True
    camera: Camera

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients leave."""


def _head(file: BinaryIO) -> list[str]:
    """Read lines up to an empty one or the end."""
    lines = iter(lambda: file.readline().strip(), b"")
    return [line.decode() for line in lines]


class _Http(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        camera = self.server.camera
        camera.requests.append("\n".join(_head(self.rfile)))
        camera.connections += 1
        if camera.redirect is not None:
            self.wfile.write(f"HTTP/1.0 302 Found\r\nLocation: {camera.redirect}\r\n\r\n".encode())
        elif camera.is_off.is_set():
            self.wfile.write(b"HTTP/1.0 503 Off\r\n\r\n")
        else:
            self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
            for data in camera.packets():
                self.wfile.write(data)


class _Rtsp(socketserver.StreamRequestHandler):
    """As much of RFC 2326 as FFmpeg asks for, with RTP between the messages."""

    server: _Server

    def handle(self) -> None:
        camera = self.server.camera
        camera.connections += 1
        while head := _head(self.rfile):
            camera.requests.append("\n".join(head))
            fields = dict(line.lower().split(": ", 1) for line in head[1:])
            method, sequence = head[0].split()[0], fields["cseq"]
            if camera.redirect is not None and method == "DESCRIBE":
                self._reply(sequence, "302 Moved", f"Location: {camera.redirect}")
                continue
            body = ""
            extra = ["Session: 1"]
            if method == "DESCRIBE":
                body = (
                    "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=cards\r\nt=0 0\r\n"
                    "m=video 0 RTP/AVP 96\r\na=rtpmap:96 MP4V-ES/90000\r\na=control:video\r\n"
                )
                extra = ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
            if method == "SETUP":
                extra.append(f"Transport: {fields['transport'].upper()}")
            self._reply(sequence, "200 OK", *extra, body=body)
            if method == "PLAY":
                self._play(camera)
                return

    def _reply(self, sequence: str, status: str, *fields: str, body: str = "") -> None:
        lines = [f"RTSP/1.0 {status}", f"CSeq: {sequence}", *fields, "", body]
        self.wfile.write("\r\n".join(lines).encode())

    def _play(self, camera: Camera) -> None:
        for data in camera.packets({"packetsize": "1200"}):
            channel = 1 if 200 <= data[1] <= 204 else 0  # RTCP
            self.wfile.write(b"$" + bytes([channel]) + len(data).to_bytes(2, "big") + data)


@contextmanager
def serving(camera: Camera, scheme: str = "http") -> Iterator[str]:
    """Serve a camera; yield its address."""
    handler = _Rtsp if scheme == "rtsp" else _Http
    if scheme == "rtsp":
        camera.container = "rtp"
    with _Server(("127.0.0.1", 0), handler) as server:
        server.camera = camera
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"{scheme}://127.0.0.1:{server.server_address[1]}/live"
        finally:
            camera.is_off.set()
            server.shutdown()
            thread.join()
