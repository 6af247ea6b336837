"""Messages of the supervisor's end, which never waits."""

import socket

import pytest

from service.processes import channel as module
from service.processes.channel import Channel, ChannelError, encoded


def test_messages_arrive_whole_whatever_the_parts_they_come_in() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(ours)
        data = encoded({"kind": "one"}) + encoded({"kind": "two", "text": "é" * 1000})
        found = []
        for byte in data:
            theirs.send(bytes([byte]))
            found += list(channel.receive())
        assert [one["kind"] for one in found] == ["one", "two"]
        assert list(channel.receive()) == []


def test_what_does_not_fit_waits_until_it_is_read() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel, message = Channel(ours), {"text": "x" * 2_000_000}
        channel.send(message)
        assert channel.has_unsent
        received = b""
        while len(received) < len(encoded(message)):
            received += theirs.recv(1_000_000)
            channel.flush()
        assert received == encoded(message)
        assert not channel.has_unsent


def test_a_worker_that_reads_nothing_or_is_gone_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 1_000_000)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        channel = Channel(ours)
        with pytest.raises(ChannelError):
            channel.send({"text": "x" * 2_000_000})
    ours, theirs = socket.socketpair()
    with ours:
        theirs.close()
        channel = Channel(ours)
        with pytest.raises(ChannelError):
            list(channel.receive())
        with pytest.raises(ChannelError):
            channel.send({})
