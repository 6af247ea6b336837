"""Accepts connections and hands each over to the worker that has the fewest."""

import selectors
import socket
import time
from collections.abc import Callable, Sequence

from service.api.listening import block_new_connections, listen
from service.api.unix_socket import remove_socket_files
from service.processes.board import Board
from service.processes.choice import Candidate, choose
from service.processes.connections import hand_over
from service.processes.place import Place

_MOST_AT_ONCE = 64
"""Connections accepted before the supervisor does anything else."""
_FULL_SECONDS, _EXHAUSTED_SECONDS = 0.005, 0.1
"""Pauses while no worker can receive a connection, and while no file descriptor is left."""
_UNRESPONSIVE_LOOKS = 4


class Dispatcher:
    """Owns the listening sockets."""

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        selector: selectors.BaseSelector,
        board: Board,
        places: Sequence[Place],
        on_lost: Callable[[Place], None],
    ) -> None:
        """Take bound sockets; none listens yet.

        Args:
            listeners: the sockets.
            selector: of the supervisor.
            board: what workers count.
            places: the workers.
            on_lost: called with a worker that receives nothing any more.
        """
        self.listeners = list(listeners)
        self._selector, self._board, self._places = selector, board, places
        self._on_lost = on_lost
        self._turns = 0
        self._resume_at: float | None = None
        self.is_listening = False

    def begin(self, backlog: int) -> None:
        """Begin to listen. Raises AddressError."""
        for listener in self.listeners:
            listen(listener, backlog)
            listener.setblocking(False)
        self.is_listening = True
        self._resume()

    @property
    def pause(self) -> float | None:
        """Return the seconds until `continue_` has something to do; None if it has not."""
        return None if self._resume_at is None else max(0.0, self._resume_at - time.monotonic())

    def continue_(self) -> None:
        """Accept again after a pause."""
        if self._resume_at is not None and time.monotonic() >= self._resume_at:
            self._resume()

    def block(self) -> None:
        """Let no connection begin; those in the handshake are established."""
        remove_socket_files(self.listeners)
        for listener in self.listeners:
            block_new_connections(listener)

    def finish(self) -> None:
        """Hand over what waits to be accepted, and close the sockets."""
        for number, listener in enumerate(self.listeners):
            while self.is_listening and (place := self._chosen()) is not None:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    break
                with connection:
                    self._give(place, number, connection)
        self.close()

    def close(self) -> None:
        """Close the sockets."""
        self._hold()
        self.is_listening = False
        for listener in self.listeners:
            listener.close()

    def _resume(self) -> None:
        self._resume_at = None
        for number, listener in enumerate(self.listeners):
            if self.is_listening and listener not in self._selector.get_map():
                self._selector.register(
                    listener, selectors.EVENT_READ, lambda _, number=number: self._accept(number)
                )

    def _hold(self, seconds: float | None = None) -> None:
        for listener in self.listeners:
            if listener.fileno() >= 0 and listener in self._selector.get_map():
                self._selector.unregister(listener)
        self._resume_at = None if seconds is None else time.monotonic() + seconds

    def _accept(self, number: int) -> None:
        for _ in range(_MOST_AT_ONCE):
            place = self._chosen()
            if place is None:
                self._hold(_FULL_SECONDS)
                return
            try:
                connection, _ = self.listeners[number].accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError:
                self._hold(_EXHAUSTED_SECONDS)
                return
            with connection:
                self._give(place, number, connection)

    def _give(self, place: Place | None, number: int, connection: socket.socket) -> None:
        """Hand a connection over, to another worker if this one ends."""
        while place is not None:
            try:
                hand_over(connection, place.handovers[number])
            except OSError:
                self._on_lost(place)
                place = self._chosen()
            else:
                self._turns += 1
                place.given, place.turn = place.given + 1, self._turns
                return

    def _chosen(self) -> Place | None:
        number = choose([self._candidate(one) for one in self._places if one.is_started])
        return None if number is None else self._places[number]

    def _candidate(self, place: Place) -> Candidate:
        return Candidate(
            place.number,
            place.given - self._board.closed(place.number),
            place.given - self._board.received(place.number),
            place.is_loaded or not self._board.is_complete,
            place.silence.looks < _UNRESPONSIVE_LOOKS,
            place.turn,
        )
