"""What the supervisor passes on between workers: changes of models, and metrics. Pure."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from service.processes.channel import Message
from service.processes.exposition import COUNTERS, Snapshot, lasting, merged
from service.processes.quarantine import Refused

COLLECT_SECONDS = 1.0
"""Time for a worker to return its metrics; after it, those it returned last count."""

Asker: TypeAlias = tuple[int, int]
"""Number of a worker, and of its question."""


@dataclass(slots=True)
class _Change:
    asker: Asker
    waiting: set[int]
    failures: dict[int, str] = field(default_factory=dict)


class Relay:
    """Answers the questions of workers, with what the other workers say."""

    def __init__(self, send: Callable[[int, Message], None]) -> None:
        """Take what sends a message to a worker by its number."""
        self._send = send
        self.state: Any = None
        """Which versions serve: what a worker loads that starts from now on."""
        self.counts: dict[str, int] = dict.fromkeys(COUNTERS, 0)
        self.refused = Refused({})
        """Requests that have ended workers."""
        self._owners: dict[str, int] = {}
        self._changes: dict[int, _Change] = {}
        self._next = 0
        self._collecting: set[int] = set()
        self._askers: list[Asker] = []
        self._until = 0.0
        self._last: dict[int, Snapshot] = {}
        self._ended: Snapshot = {}

    def handle(self, worker: int, message: Message, workers: Iterable[int], now: float) -> None:
        """Handle a message of one of the workers, at a time in seconds."""
        match message:
            case {"kind": "begin", "question": question, "model": model}:
                self.begin((worker, question), model)
            case {"kind": "end", "model": model}:
                self.end(worker, model)
            case {"kind": "change", "question": question, "operation": made, "state": state}:
                self.change((worker, question), made, state, workers)
            case {"kind": "applied", "change": change, "failure": failure}:
                self.applied(worker, change, failure)
            case {"kind": "collect", "question": question}:
                self.collect((worker, question), workers, now)
            case {"kind": "snapshot", "values": values}:
                self.snapshot(worker, values)
            case {"kind": "refuse"}:
                self.refuse(worker, message, workers)

    def refuse(self, worker: int, message: Message, workers: Iterable[int]) -> None:
        """Have all workers refuse a request, also those that start later."""
        self.refused.add(message["digest"])
        for other in sorted(set(workers) - {worker}):
            self._send(other, message)

    def begin(self, asker: Asker, model: str) -> None:
        """Let a worker change a model, unless another one does."""
        is_free = model not in self._owners
        self._owners.setdefault(model, asker[0])
        self._send(asker[0], _answer(asker[1], granted=is_free))

    def end(self, worker: int, model: str) -> None:
        """Note that a worker has changed a model, or failed to."""
        if self._owners.get(model) == worker:
            del self._owners[model]

    def change(self, asker: Asker, operation: Any, state: Any, workers: Iterable[int]) -> None:
        """Have other workers make the change that the asking one has made."""
        self.state = state
        others = set(workers) - {asker[0]}
        number, self._next = self._next, self._next + 1
        self._changes[number] = _Change(asker, others)
        for worker in sorted(others):
            self._send(worker, {"kind": "apply", "change": number, "operation": operation})
        self._conclude(number)

    def applied(self, worker: int, number: int, failure: str | None) -> None:
        """Note that a worker has made a change, or why it has not."""
        if (change := self._changes.get(number)) is None or worker not in change.waiting:
            return
        change.waiting.discard(worker)
        if failure is not None:
            change.failures[worker] = failure
        self._conclude(number)

    def collect(self, asker: Asker, workers: Iterable[int], now: float) -> None:
        """Ask workers for their metrics, unless they are being asked already."""
        self._askers.append(asker)
        if len(self._askers) > 1:
            return
        self._until = now + COLLECT_SECONDS
        self._collecting = set(workers)
        for worker in sorted(self._collecting):
            self._send(worker, {"kind": "snapshot"})
        self._show()

    def snapshot(self, worker: int, values: Snapshot) -> None:
        """Keep the metrics of a worker, and answer if they were the last that were missing."""
        self._last[worker] = values
        self._collecting.discard(worker)
        self._show()

    def expire(self, now: float) -> None:
        """Answer without the metrics that do not come."""
        if self._askers and now >= self._until:
            self._collecting.clear()
            self._show()

    def gone(self, worker: int) -> None:
        """Forget a worker that has ended, but not what it counted."""
        self._ended = merged([self._ended, lasting(self._last.pop(worker, {}))])
        self._owners = {model: one for model, one in self._owners.items() if one != worker}
        self._askers = [asker for asker in self._askers if asker[0] != worker]
        self._collecting.discard(worker)
        self._show()
        for number in list(self._changes):
            change = self._changes[number]
            change.waiting.discard(worker)
            if change.asker[0] == worker:
                del self._changes[number]
            else:
                self._conclude(number)

    def _conclude(self, number: int) -> None:
        change = self._changes[number]
        if not change.waiting:
            del self._changes[number]
            worker, question = change.asker
            self._send(worker, _answer(question, failures=change.failures))

    def _show(self) -> None:
        if self._collecting or not self._askers:
            return
        askers, self._askers = self._askers, []
        found = {
            "snapshots": [self._ended, *self._last.values()],
            "processes": len(self._last),
            "counts": self.counts,
        }
        for worker, question in askers:
            self._send(worker, _answer(question, **found))


def _answer(question: int, **found: Any) -> Message:
    return {"kind": "answer", "question": question, **found}
