import sys
from pathlib import Path

import pytest

from benchmarks.samples import Latencies, Load
from benchmarks.servers import Server, free_port
from benchmarks.watch import Watch
from tests.sentences import sentence

pytestmark = pytest.mark.looptime(False)

METRICS_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Handler(BaseHTTPRequestHandler):
    asked = 0

    def do_GET(self):
        if self.path == "/health/ready":
            Handler.asked += 1
            return self.answer(200 if Handler.asked > 2 else 503, "")
        Handler.asked += 10
        names = ("batch_size", "padding_ratio", "queue_seconds", "compute_seconds")
        lines = [f'inference_{n}_sum{{model="m"}} {Handler.asked * 4}' for n in names]
        lines += [f'inference_{n}_count{{model="m"}} {Handler.asked}' for n in names]
        self.answer(200, "\\n".join(lines))

    def answer(self, status, text):
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments):
        pass

HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def test_a_server_is_waited_for_watched_and_stopped(tmp_path: Path) -> None:
    port = free_port()
    command = [sys.executable, "-c", METRICS_SERVER, str(port)]
    with Server(command, {}, tmp_path / "log", port) as server:
        assert server.wait_ready() > 0
        watch = Watch(server, "m")
        inside = watch.stop(Load(2.0, Latencies.of([0.1] * 20), {}, 0, 0.0))
        assert inside.mean_batch == inside.queue == inside.compute == 4.0
        assert inside.running == 20.0
        assert inside.cpu >= 0
        memory = server.memory()
        assert memory.rss >= memory.pss > 1
        with pytest.raises(OSError, match="501"):
            server.post("/x", b"{}", {})
    assert server.stop() == -15


def test_a_server_that_ends_is_reported_with_what_it_said(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        Server(command, {}, tmp_path / "log", free_port()) as server,
        pytest.raises(RuntimeError, check=sentence),
    ):
        server.wait_ready()


def test_our_settings_do_not_leak_into_the_server_under_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUARTET_CACHE__ENABLED", "false")
    command = [sys.executable, "-c", "import os; print([k for k in os.environ if 'QUARTET' in k])"]
    with (
        Server(command, {"QUARTET_SERVER__PORT": "1"}, tmp_path / "log", 1) as server,
        pytest.raises(RuntimeError, check=sentence),
    ):
        server.wait_ready()
    assert (tmp_path / "log").read_text(encoding="utf-8") == "['QUARTET_SERVER__PORT']\n"
