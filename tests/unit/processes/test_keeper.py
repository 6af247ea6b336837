"""What becomes of the connections of a worker that has ended."""

import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from service.processes.keeper import Keeper, Kept
from service.processes.records import MOST_BYTES, Record, Records, Room

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="requests are recorded on Linux")

REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nx"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@dataclass
class Desk:
    """A keeper, and connections of its two workers."""

    keeper: Keeper
    records: Records
    listener: socket.socket
    clients: list[socket.socket]

    def connect(self, worker: int) -> tuple[Kept, Record]:
        """Return a connection as the keeper sees it, and its record as the worker does."""
        self.clients.append(socket.create_connection(self.listener.getsockname()))
        kept = self.keeper.keep(self.listener.accept()[0], 0)
        assert kept is not None
        kept.worker = worker
        return kept, self.records.record(kept.slot, Room(MOST_BYTES))

    def ask(self, worker: int) -> Kept:
        """Return a connection with a whole request that is not answered."""
        kept, record = self.connect(worker)
        record.receive(REQUEST)
        record.end_body()
        return kept

    def waiting(self) -> list[Kept]:
        found = []
        while (kept := self.keeper.next_waiting()) is not None:
            found.append(kept)
            kept.worker = 1
        return found

    def counted(self) -> tuple[int, int]:
        counts = self.keeper.counts()
        return counts["process_requests_retried"], counts["process_requests_lost"]


@pytest.fixture
def desk() -> Iterator[Desk]:
    records = Records(8)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        desk = Desk(Keeper(records, 10_000), records, listener, [])
        yield desk
        desk.keeper.leave_all()
        for client in desk.clients:
            client.close()


def test_an_idle_connection_goes_on_and_an_unanswered_request_is_tried_again(desk: Desk) -> None:
    idle, record = desk.connect(0)
    record.receive(REQUEST)
    record.send(ANSWER, is_last=True)
    idle.connection.send(ANSWER)
    record.finish()
    asked, other = desk.ask(0), desk.ask(1)
    desk.keeper.recover(0, was_killed=True)
    assert desk.waiting() == [idle, asked]
    assert desk.counted() == (1, 0)
    assert desk.records.record(asked.slot).read() == REQUEST
    assert desk.records.record(idle.slot).read() == b""
    assert other.worker == 1


def test_an_answer_of_which_a_part_was_sent_is_lost_and_its_connection_closed(desk: Desk) -> None:
    kept, record = desk.connect(0)
    record.receive(REQUEST)
    record.send(ANSWER, is_last=True)
    kept.connection.send(ANSWER[:10])
    desk.keeper.recover(0, was_killed=True)
    assert desk.waiting() == []
    assert desk.counted() == (0, 1)
    assert desk.clients[0].recv(100) == ANSWER[:10]
    assert desk.clients[0].recv(100) == b""


@pytest.mark.parametrize("recorded", [0, 20, len(REQUEST)])
@pytest.mark.parametrize("taken", [0, 20, len(REQUEST)])
@pytest.mark.parametrize("is_half_closed", [False, True])
def test_what_was_read_and_not_recorded_is_lost_at_once(
    desk: Desk, recorded: int, taken: int, is_half_closed: bool
) -> None:
    kept, record = desk.connect(0)
    record.receive(REQUEST[:recorded])
    desk.clients[0].send(REQUEST)
    if is_half_closed:
        desk.clients[0].shutdown(socket.SHUT_WR)
    if taken:
        kept.connection.recv(taken, socket.MSG_WAITALL)
    desk.keeper.recover(0, was_killed=True)
    is_lost = taken > recorded
    assert desk.waiting() == ([] if is_lost else [kept])
    assert desk.counted()[1] == is_lost


def test_an_answer_that_was_about_to_be_sent_is_computed_again(desk: Desk) -> None:
    kept, record = desk.connect(0)
    record.receive(REQUEST)
    record.send(ANSWER, is_last=True)
    desk.keeper.recover(0, was_killed=True)
    assert desk.waiting() == [kept]
    assert desk.counted() == (1, 0)


def test_an_answer_that_was_sent_is_not_computed_again(desk: Desk) -> None:
    kept, record = desk.connect(0)
    record.receive(REQUEST)
    record.send(ANSWER, is_last=True)
    kept.connection.send(ANSWER)
    desk.keeper.recover(0, was_killed=True)
    assert desk.waiting() == [kept]
    assert desk.counted() == (0, 0)
    assert kept.record.read() == b""


def test_a_request_that_is_too_long_is_lost_and_the_next_is_not(desk: Desk) -> None:
    kept, record = desk.connect(0)
    for _ in range(MOST_BYTES // 2**20 + 1):
        record.receive(bytes(2**20))
    record.send(ANSWER, is_last=True)
    kept.connection.send(ANSWER)
    record.finish()
    record.receive(REQUEST)
    desk.keeper.recover(0, was_killed=True)
    assert desk.waiting() == [kept]
    long, record = desk.connect(0)
    record.receive(bytes(MOST_BYTES + 1))
    desk.keeper.recover(0, was_killed=True)
    assert desk.waiting() == []
    assert long.connection.fileno() < 0


def test_long_requests_have_bounded_room_together(desk: Desk) -> None:
    room = Room(2**20)
    first = desk.records.record(0, room)
    second = desk.records.record(1, room)
    first.receive(bytes(2**20))
    second.receive(bytes(2**18))
    assert room.left == 0
    first.finish()
    second.finish()
    assert room.left == 2**20
    second.receive(bytes(2**18))
    assert len(second.read()) == 2**18


def test_a_request_that_was_alone_in_two_workers_that_ended_is_refused(desk: Desk) -> None:
    kept = desk.ask(0)
    desk.keeper.recover(0, was_killed=True)
    assert desk.waiting() == [kept]
    assert not kept.record.is_guilty
    kept.record.end_body()
    desk.keeper.recover(1, was_killed=True)
    assert desk.waiting() == [kept]
    assert kept.record.is_guilty


def test_of_several_suspects_only_the_one_on_trial_is_refused(desk: Desk) -> None:
    suspects = [desk.ask(0) for _ in range(3)]
    for worker in (0, 1):
        desk.keeper.recover(worker, was_killed=False)
        tried = desk.waiting()
        for kept in tried:
            kept.record.end_body()
    (first,) = tried
    assert first is suspects[0]
    desk.keeper.recover(1, was_killed=False)
    assert first.record.is_guilty
    assert desk.waiting() == [suspects[1], first]
    suspects[1].record.finish()
    assert desk.waiting() == [suspects[2]]


def test_requests_of_a_process_that_others_kill_are_not_suspected(desk: Desk) -> None:
    asked = [desk.ask(0) for _ in range(2)]
    for worker in (0, 1, 1, 1, 1):
        desk.keeper.recover(worker, was_killed=True)
        assert desk.waiting() == asked
        for kept in asked:
            kept.record.end_body()
    assert [kept.record.suspicions for kept in asked] == [0, 0]


def test_a_connection_is_kept_only_while_there_is_room(desk: Desk) -> None:
    kept = [desk.connect(0)[0] for _ in range(8)]
    with socket.socket() as one:
        assert desk.keeper.keep(one, 0) is None
        desk.keeper.close(kept[0])
        assert desk.keeper.keep(one, 0) is not None
