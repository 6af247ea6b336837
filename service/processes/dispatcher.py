"""Accepts connections and hands each over to the worker that has the fewest.

Those of a worker that has ended are handed over again, to workers that have loaded their models.
"""

import selectors
import socket
import time
from collections.abc import Callable, Sequence

from service.api.listening import block_new_connections, listen, most_descriptors
from service.api.unix_socket import remove_socket_files
from service.processes.board import Board
from service.processes.choice import Candidate, choose
from service.processes.connections import hand_over
from service.processes.keeper import Keeper, Kept, slot_of
from service.processes.place import Place
from service.processes.records import Records

_MOST_AT_ONCE = 64
"""Connections accepted before the supervisor does anything else."""
_FULL_SECONDS, _EXHAUSTED_SECONDS = 0.005, 0.1
"""Pauses while no worker can receive a connection, and while no file descriptor is left."""
_AGAIN_SECONDS = 0.002
"""Pause while connections of an ended worker wait."""
_LOADING_SECONDS = 5.0
"""How long new connections wait while no worker has loaded its models, though each once had."""
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
        records: Records | None = None,
    ) -> None:
        """Take bound sockets; none listens yet.

        Args:
            listeners: the sockets.
            selector: of the supervisor.
            board: what workers count.
            places: the workers.
            on_lost: called with a worker that receives nothing any more.
            records: what workers have yet to answer; None loses it with them.
        """
        self.listeners = list(listeners)
        self._selector, self._board, self._places = selector, board, places
        self._on_lost = on_lost
        self.keeper = Keeper(records, most_descriptors())
        self._none_loaded_since = float("inf")
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
        if self.keeper.has_waiting:
            return _AGAIN_SECONDS
        return None if self._resume_at is None else max(0.0, self._resume_at - time.monotonic())

    def continue_(self) -> None:
        """Hand over what has waited, and accept again after a pause."""
        self._give_again(self._loaded)
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
                self._give(place, number, connection)
        self._give_again(self._chosen)
        self.close()

    def watch(self, place: Place) -> None:
        """Read which connections a worker closes, from its start on."""
        for handover in place.handovers:
            self._selector.register(
                handover, selectors.EVENT_READ, lambda _, one=handover: self._read(place, one)
            )

    def forget(self, place: Place) -> None:
        """Read nothing more from a worker, whose sockets are about to be closed."""
        for handover in place.handovers:
            if handover in self._selector.get_map():
                self._selector.unregister(handover)
            self.keeper.forget(handover)

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
            self._give(place, number, connection)

    def _give(self, place: Place | None, number: int, connection: socket.socket) -> None:
        """Hand an accepted connection over, to another worker if this one ends."""
        kept = self.keeper.keep(connection, number)
        while place is not None and not self._hand_over(place, number, connection, kept):
            place = self._chosen()
        if kept is None:
            connection.close()
        elif place is None:
            self.keeper.put_back(kept)

    def _give_again(self, chosen: Callable[[], Place | None]) -> None:
        """Hand over the connections of ended workers."""
        while (place := chosen()) is not None and (kept := self.keeper.next_waiting()) is not None:
            if not self._hand_over(place, kept.listener, kept.connection, kept):
                self.keeper.put_back(kept)

    def _hand_over(
        self, place: Place, number: int, connection: socket.socket, kept: Kept | None
    ) -> bool:
        try:
            hand_over(connection, slot_of(kept), place.handovers[number])
        except OSError:
            self._on_lost(place)
            return False
        self._turns += 1
        place.given, place.turn = place.given + 1, self._turns
        if kept is not None:
            kept.worker = place.number
        return True

    def _read(self, place: Place, handover: socket.socket) -> None:
        try:
            self.keeper.read_closed(handover)
        except BlockingIOError:
            return
        except OSError:
            self._on_lost(place)

    def _chosen(self) -> Place | None:
        """Return the worker for a new connection; None if it must wait."""
        if self._must_wait_for_models():
            return None
        number = choose([self._candidate(one) for one in self._places if one.is_started])
        return None if number is None else self._places[number]

    def _loaded(self) -> Place | None:
        """Return the worker for a connection of a worker that has ended."""
        able = [one for one in self._places if one.is_started and one.is_loaded]
        number = choose([self._candidate(one) for one in able])
        return None if number is None else self._places[number]

    def _must_wait_for_models(self) -> bool:
        if not self._board.is_complete or any(one.is_loaded for one in self._places):
            self._none_loaded_since = float("inf")
            return False
        now = time.monotonic()
        self._none_loaded_since = min(self._none_loaded_since, now)
        return now < self._none_loaded_since + _LOADING_SECONDS

    def _candidate(self, place: Place) -> Candidate:
        return Candidate(
            place.number,
            place.given - self._board.closed(place.number),
            place.given - self._board.received(place.number),
            place.is_loaded or not self._board.is_complete,
            place.silence.looks < _UNRESPONSIVE_LOOKS,
            place.turn,
        )
