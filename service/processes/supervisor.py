"""The supervisor: starts workers, starts them again when they end, and stops them.

It has one thread and no model, so that it can fork at any time.
"""

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from service.processes.board import Board
from service.processes.channel import ChannelError, Message
from service.processes.choice import Silence
from service.processes.connections import receiving
from service.processes.dispatcher import Dispatcher
from service.processes.place import Place
from service.processes.records import Records
from service.processes.relay import Relay
from service.processes.worker import Worker

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 0.25
_HANDSHAKE_SECONDS = 0.1
"""Time for connections in the handshake to be established at a stop."""
_AGAIN_SECONDS = 1.0
"""Until a worker that does not end is killed again."""
_MOST_FAILED_STARTS = 5
"""Workers in a row that end before they can serve."""
_NEVER = float("inf")


@dataclass(frozen=True, slots=True)
class SupervisorOptions:
    """How many workers there are, and how long they may take."""

    processes: int
    backlog: int
    stop_seconds: float
    """From the start of a stop until a worker that still runs is killed."""
    hang_seconds: float = 30.0
    """After which a worker whose event loop does not run is killed."""
    keeps_connections: bool = False
    """Whether the requests of a worker that ends are tried again by others."""


class Supervisor:
    """Runs workers until a signal stops them."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        options: SupervisorOptions,
        work: Callable[[Worker], int],
        signals: Sequence[int] = (signal.SIGTERM, signal.SIGINT),
    ) -> None:
        """Take bound sockets.

        Args:
            listeners: bound sockets.
            options: how many workers.
            work: what a worker does after the fork; returns its exit status.
            signals: those that stop the service.
        """
        self._options, self._work, self._signals = options, work, signals
        self._board = Board(options.processes)
        self._places = [Place(number) for number in range(options.processes)]
        self._places[0].due = 0.0  # the others once it has started: its error is then the only one
        self._selector = selectors.DefaultSelector()
        self._relay = Relay(self._send)
        keeps = options.keeps_connections and Records.are_possible()
        self._records = Records() if keeps else None
        self._dispatcher = Dispatcher(
            listeners, self._selector, self._board, self._places, self._part, self._records
        )
        self._failed_starts = 0
        self._looked = 0.0
        self._is_stopping = self._is_interrupted = False
        self._stop_at = self._kill_at = _NEVER
        self._status = 0

    def run(self) -> int:
        """Serve until a signal, and return the exit status.

        Raises:
            AddressError: another process listens on one of the addresses by now.
        """
        woken, waker = socket.socketpair()
        for end in (woken, waker):
            end.setblocking(False)
        signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(woken, selectors.EVENT_READ, lambda _: _drain(woken))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        for number in self._signals:
            signal.signal(number, self._note_signal)
        try:
            while not self._is_stopping or any(place.pid for place in self._places):
                self._turn()
        finally:
            self._dispatcher.close()
            self._signal(signal.SIGKILL)  # there is none left, unless an error ended the loop
        return self._status

    def _turn(self) -> None:
        self._start_due()
        pause = self._dispatcher.pause
        slice_ = _HANDSHAKE_SECONDS if self._is_stopping else _LOOK_SECONDS
        for key, mask in self._selector.select(slice_ if pause is None else min(pause, slice_)):
            key.data(mask)
        self._dispatcher.continue_()
        self._reap()
        self._look()
        self._continue_stop()

    def _note_signal(self, number: int, frame: Any) -> None:
        self._is_interrupted = self._is_stopping and number == signal.SIGINT
        self._is_stopping = True

    def _start_due(self) -> None:
        now = time.monotonic()
        for place in self._places:
            if place.due is not None and place.due <= now and not self._is_stopping:
                place.due = None
                self._fork(place)

    def _fork(self, place: Place) -> None:
        control, theirs = socket.socketpair()
        listeners = self._dispatcher.listeners
        pairs = [socket.socketpair() for _ in listeners]
        ends = [receiving(end, one) for (_, end), one in zip(pairs, listeners, strict=True)]
        worker = Worker(
            *(place.number, len(self._places), self._board, theirs, ends),
            *(self._relay.state, self._relay.refused.now(), self._records),
        )
        self._board.clear(place.number)
        place.given, place.is_loaded, place.is_hanging = 0, False, False
        place.silence = Silence()
        _flush()
        pid = os.fork()
        if pid == 0:
            for mine in (control, *(one for one, _ in pairs)):
                mine.close()
            self._become(worker)
        for end in (theirs, *ends):
            end.close()
        place.occupy(pid, control, [one for one, _ in pairs])
        self._watch(place)
        self._dispatcher.watch(place)
        _log.info("process started", extra={"worker": place.number, "pid": pid})

    def _become(self, worker: Worker) -> None:
        """Close what is the supervisor's, do a worker's work, and end. Never returns."""
        status: Any = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (*self._signals, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)  # a terminal signals the supervisor alone
            self._selector.close()
            for listener in self._dispatcher.listeners:
                listener.close()
            for place in self._places:
                place.disconnect()
            self._dispatcher.keeper.leave_all()
            status = self._work(worker)
        except SystemExit as error:
            status = error.code
        except BaseException:
            _log.exception("process failed", extra={"worker": worker.number})
        finally:
            _flush()
            os._exit(status if isinstance(status, int) else 1)

    def _watch(self, place: Place) -> None:
        if (channel := place.channel) is None:
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if channel.has_unsent else 0)
        known = self._selector.get_map().get(channel.connection)
        if known is None:
            self._selector.register(
                channel.connection, events, lambda mask: self._serve(place, mask)
            )
        elif known.events != events:
            self._selector.modify(channel.connection, events, known.data)

    def _serve(self, place: Place, mask: int) -> None:
        """Read what a worker has sent, and send what waits for it."""
        try:
            if place.channel is not None and mask & selectors.EVENT_WRITE:
                place.channel.flush()
                self._watch(place)
            if place.channel is not None and mask & selectors.EVENT_READ:
                for message in place.channel.receive():
                    self._handle(place, message)
        except ChannelError:
            self._part(place)

    def _send(self, number: int, message: Message) -> None:
        place = self._places[number]
        if place.channel is None:
            return
        try:
            place.channel.send(message)
            self._watch(place)
        except ChannelError:
            self._part(place)

    def _part(self, place: Place) -> None:
        """Give up a worker that ends or does not read. One that lasts notices it, and stops."""
        if place.channel is not None:
            self._selector.unregister(place.channel.connection)
        self._dispatcher.forget(place)
        place.disconnect()

    def _handle(self, place: Place, message: Message) -> None:
        match message:
            case {"kind": "started"}:
                self._note_started(place)
            case {"kind": "loaded", "state": state}:
                self._relay.state = self._relay.state or state
                place.is_loaded = place.has_loaded_once = True
                self._board.is_complete = all(one.has_loaded_once for one in self._places)
            case {"kind": "leaving"}:
                place.is_started = False
            case _:
                reached = [one.number for one in self._places if one.channel is not None]
                self._relay.handle(place.number, message, reached, time.monotonic())

    def _note_started(self, place: Place) -> None:
        place.is_started = True
        self._failed_starts = 0
        if not self._dispatcher.is_listening and not self._is_stopping:
            self._dispatcher.begin(self._options.backlog)
            for one in self._places[1:]:
                one.due = 0.0

    def _reap(self) -> None:
        for place in self._places:
            if place.pid:
                pid, status = os.waitpid(place.pid, os.WNOHANG)
                if pid:
                    self._note_end(place, os.waitstatus_to_exitcode(status))

    def _note_end(self, place: Place, status: int) -> None:
        self._serve(place, selectors.EVENT_READ)  # its last messages
        facts = {"worker": place.number, "pid": place.pid, "status": status}
        has_started = bool(self._board.heartbeat(place.number))
        place.pid, place.is_loaded, was_loaded = 0, False, place.is_loaded
        self._part(place)
        self._relay.gone(place.number)
        was_killed = status == -signal.SIGKILL and not place.is_hanging
        self._dispatcher.keeper.recover(place.number, was_killed=was_killed)
        if self._is_stopping:
            self._status = self._status or max(0, status)
            return
        self._failed_starts += not has_started
        if not self._dispatcher.is_listening or self._failed_starts > _MOST_FAILED_STARTS:
            _log.critical("process does not start", extra=facts)
            self._status, self._is_stopping = (status if status > 0 else 1), True
            return
        pause = place.back_off.pause(was_loaded)
        place.due = time.monotonic() + pause
        self._relay.counts["process_restarts"] += 1
        self._relay.counts |= self._dispatcher.keeper.counts()
        _log.error("process ended", extra={**facts, "restart_in": pause})

    def _look(self) -> None:
        """Look after the workers, every quarter of a second."""
        now = time.monotonic()
        if now < self._looked + _LOOK_SECONDS:
            return
        self._looked = now
        self._relay.expire(now)
        for place in self._places:
            heartbeat = self._board.heartbeat(place.number)
            place.silence.look(heartbeat)
            seconds = place.silence.looks * _LOOK_SECONDS
            if place.pid and heartbeat and seconds > self._options.hang_seconds:
                _log.critical("process hangs", extra={"worker": place.number, "pid": place.pid})
                place.is_hanging = True
                os.kill(place.pid, signal.SIGKILL)

    def _continue_stop(self) -> None:
        now = time.monotonic()
        if not self._is_stopping:
            return
        if self._stop_at == _NEVER:
            self._dispatcher.block()
            self._stop_at = now + (_HANDSHAKE_SECONDS if self._dispatcher.is_listening else 0.0)
        if now >= self._stop_at and self._kill_at == _NEVER:
            self._kill_at = now + self._options.stop_seconds
            self._dispatcher.finish()
            self._signal(signal.SIGTERM)
        if now >= self._kill_at or self._is_interrupted:
            self._kill_at, self._status = now + _AGAIN_SECONDS, self._status or 1
            self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        for place in self._places:
            if place.pid:
                os.kill(place.pid, number)


def _drain(woken: socket.socket) -> None:
    with suppress(BlockingIOError):
        woken.recv(4096)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
