"""Without file descriptors for more connections, clients wait, and the log and a metric say so."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.integration  # it starts processes

PROGRAM = """
import asyncio, logging, os, resource, socket, sys
import uvloop
from prometheus_client import REGISTRY
from service.api.listening import Acceptor, bind

class Echo(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport
    def data_received(self, data):
        self.transport.write(data)

async def ask(client):
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, b"hi")
    return await loop.sock_recv(client, 10)

async def main():
    (listener,) = bind("127.0.0.1", 0)
    listener.listen(64)
    clients = [socket.create_connection(listener.getsockname()) for _ in range(30)]
    for client in clients:
        client.setblocking(False)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 25, free + 25))
    acceptor = Acceptor(listener, 64, Echo)
    asking = [asyncio.create_task(ask(client)) for client in clients]
    async with asyncio.timeout(120):
        while not REGISTRY.get_sample_value("http_accepts_held_back_total"):
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.5)
    waiting = [task for task in asking if not task.done()]
    assert 0 < len(waiting) < 30, len(waiting)
    os.close(os.dup(0))  # a model's file could still be opened
    for client, task in zip(clients, asking):
        if task.done():
            client.close()
    async with asyncio.timeout(120):
        assert set(await asyncio.gather(*asking)) == {b"hi"}  # no client was cut off
    for client in clients:
        client.close()
    await acceptor.close()

logging.basicConfig(format="%(message)s")
with asyncio.Runner(loop_factory=getattr(sys.modules[sys.argv[1]], "new_event_loop")) as runner:
    runner.run(main())
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_clients_wait_until_others_leave_and_the_log_says_so_once(loop: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, loop],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "connections wait to be accepted\n")
