"""Listening on a Unix socket."""

import asyncio
import socket
from pathlib import Path
from stat import S_IMODE

import pytest

from service.api.listening import Acceptor, AddressError
from service.api.unix_socket import UnixListener, remove_socket_files
from service.settings import SettingsError, read_settings
from tests.sentences import sentence
from tests.unit.http_application import REQUEST, Application, answer, running

pytestmark = pytest.mark.looptime(False)  # real sockets


def path_of(folder: Path) -> Path:
    return folder / "quartet.sock"


def test_the_file_has_the_mode_that_is_set(tmp_path: Path) -> None:
    with UnixListener(path_of(tmp_path), 0o640):
        assert S_IMODE(path_of(tmp_path).stat().st_mode) == 0o640


def test_a_socket_that_nothing_listens_on_is_replaced(tmp_path: Path) -> None:
    UnixListener(path_of(tmp_path), 0o600).close()
    assert path_of(tmp_path).exists()
    with UnixListener(path_of(tmp_path), 0o600), connected(tmp_path):
        pass


def connected(folder: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.connect(str(path_of(folder)))
    return client


@pytest.mark.parametrize("crowd", [0, 200], ids=["idle", "with a full backlog"])
def test_a_socket_that_another_process_listens_on_is_refused(tmp_path: Path, crowd: int) -> None:
    with UnixListener(path_of(tmp_path), 0o600) as first:
        first.listen(1)
        waiting = []
        for _ in range(crowd):
            client = socket.socket(socket.AF_UNIX)
            client.setblocking(False)
            client.connect_ex(str(path_of(tmp_path)))
            waiting.append(client)
        with pytest.raises(AddressError) as caught:
            UnixListener(path_of(tmp_path), 0o600)
        for client in waiting:
            client.close()
    assert sentence(str(caught.value).replace(str(tmp_path), "FOLDER"))


@pytest.mark.parametrize("kind", ["file", "folder", "absent", "long"])
def test_a_path_that_can_be_no_socket_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "file":
        path.write_text("precious")
    elif kind == "folder":
        path.mkdir()
    else:
        path = tmp_path / ("none" if kind == "absent" else "long" * 40) / "x"
    with pytest.raises(AddressError) as caught:
        UnixListener(path, 0o600)
    assert sentence(str(caught.value).replace(str(tmp_path), "FOLDER"))
    assert kind != "file" or path.read_text() == "precious"


def test_only_its_own_file_is_removed(tmp_path: Path) -> None:
    with UnixListener(path_of(tmp_path), 0o600) as old:
        path_of(tmp_path).unlink()
        with UnixListener(path_of(tmp_path), 0o600) as new:
            remove_socket_files([old])
            connected(tmp_path).close()
            remove_socket_files([new, new])
            assert not path_of(tmp_path).exists()


async def test_requests_come_over_it_and_those_in_the_backlog_are_answered(tmp_path: Path) -> None:
    app = Application()
    async with running(app) as (_, _):
        listener = UnixListener(path_of(tmp_path), 0o600)
        early = connected(tmp_path)
        app.server._acceptors.append(Acceptor(listener, 16, app.server._protocol))
        reader, writer = await asyncio.open_unix_connection(path_of(tmp_path))
        for _ in range(2):
            writer.write(REQUEST)
            await answer(reader)
        writer.close()
        early.setblocking(False)
        early.sendall(REQUEST)
        remove_socket_files([listener])
        await app.server.shutdown()
        assert early.recv(1000).startswith(b"HTTP/1.1 200")
        early.close()


@pytest.mark.parametrize(
    "given",
    [
        {"QUARTET_SERVER__TCP": "false"},
        {"QUARTET_SERVER__UNIX_SOCKET": "/x", "QUARTET_SERVER__UNIX_SOCKET_MODE": "rw"},
    ],
    ids=["nothing to listen on", "a mode in letters"],
)
def test_wrong_settings_are_refused(given: dict[str, str]) -> None:
    with pytest.raises(SettingsError, check=sentence):
        read_settings(given)
