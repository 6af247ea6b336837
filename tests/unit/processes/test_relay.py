"""What the supervisor passes on between workers."""

from typing import Any

from service.processes.exposition import Snapshot
from service.processes.relay import COLLECT_SECONDS, Relay

LOAD = ["load", "m", 2, "fp32"]


class Workers:
    def __init__(self) -> None:
        self.sent: list[tuple[int, dict[str, Any]]] = []
        self.relay = Relay(lambda number, message: self.sent.append((number, message)))

    def taken(self) -> list[tuple[int, dict[str, Any]]]:
        sent, self.sent = self.sent, []
        return sent

    def says(self, worker: int, kind: str, now: float = 0.0, **values: Any) -> None:
        self.relay.handle(worker, {"kind": kind, **values}, [0, 1, 2], now)


def counted(value: float) -> Snapshot:
    return {"asked": ("counter", "Asked.", "sum", [("asked_total", [], value)])}


def answer(question: int, **found: Any) -> dict[str, Any]:
    return {"kind": "answer", "question": question, **found}


def test_a_model_is_changed_by_one_worker_at_a_time() -> None:
    workers = Workers()
    workers.says(0, "begin", question=1, model="m")
    workers.says(1, "begin", question=5, model="m")
    workers.says(0, "begin", question=2, model="m")
    workers.says(1, "begin", question=6, model="other")
    granted = [message["granted"] for _, message in workers.taken()]
    assert granted == [True, False, False, True]
    workers.says(1, "end", model="m")  # not its own
    workers.says(0, "end", model="m")
    workers.says(1, "begin", question=7, model="m")
    assert workers.taken() == [(1, answer(7, granted=True))]


def test_a_worker_that_ends_gives_its_models_up() -> None:
    workers = Workers()
    workers.says(0, "begin", question=1, model="m")
    workers.relay.gone(0)
    workers.says(1, "begin", question=1, model="m")
    assert workers.taken()[-1] == (1, answer(1, granted=True))


def test_a_change_is_answered_when_all_others_have_made_it() -> None:
    workers = Workers()
    workers.says(1, "change", question=3, operation=LOAD, state={"new": 1})
    assert workers.relay.state == {"new": 1}
    sent = workers.taken()
    assert [number for number, _ in sent] == [0, 2]
    change = sent[0][1]["change"]
    workers.says(0, "applied", change=change, failure=None)
    workers.says(0, "applied", change=change, failure="twice")
    assert workers.taken() == []
    workers.says(2, "applied", change=change, failure="no memory")
    assert workers.taken() == [(1, answer(3, failures={2: "no memory"}))]


def test_a_change_does_not_wait_for_a_worker_that_has_ended() -> None:
    workers = Workers()
    workers.says(1, "change", question=3, operation=LOAD, state={})
    change = workers.taken()[0][1]["change"]
    workers.says(0, "applied", change=change, failure=None)
    workers.relay.gone(2)
    assert workers.taken() == [(1, answer(3, failures={}))]
    workers.says(1, "change", question=4, operation=LOAD, state={})
    workers.relay.gone(1)  # who asked
    workers.taken()
    workers.says(0, "applied", change=change + 1, failure=None)
    assert workers.taken() == []


def shown(found: dict[str, Any]) -> list[float]:
    return [one["asked"][3][0][2] for one in found["snapshots"] if one]


def test_metrics_are_collected_once_for_all_that_ask_meanwhile() -> None:
    workers = Workers()
    workers.says(0, "collect", question=1)
    workers.says(1, "collect", question=9)
    assert workers.taken() == [(number, {"kind": "snapshot"}) for number in (0, 1, 2)]
    for number in (0, 1, 2):
        workers.says(number, "snapshot", values=counted(number + 1))
    (first, one), (second, other) = workers.taken()
    assert (first, one["question"], second, other["question"]) == (0, 1, 1, 9)
    assert shown(one) == [1, 2, 3]


def test_a_worker_that_returns_nothing_counts_as_it_did_last() -> None:
    workers = Workers()
    workers.says(0, "collect", question=1)
    for number in (0, 1, 2):
        workers.says(number, "snapshot", values=counted(number + 1))
    workers.taken()
    workers.says(0, "collect", question=2, now=10.0)
    workers.says(0, "snapshot", values=counted(10))
    workers.relay.expire(10.0 + COLLECT_SECONDS / 2)
    assert len(workers.taken()) == 3
    workers.relay.expire(10.0 + COLLECT_SECONDS)
    ((_, found),) = workers.taken()
    assert shown(found) == [10, 2, 3]


def test_what_an_ended_worker_counted_is_kept() -> None:
    workers = Workers()
    for turn in range(3):
        workers.says(0, "collect", question=turn)
        for number in (0, 1, 2):
            workers.says(number, "snapshot", values=counted(1))
        workers.relay.gone(2)
        workers.taken()
    workers.says(0, "collect", question=9)
    workers.says(0, "snapshot", values=counted(1))
    workers.says(1, "snapshot", values=counted(1))
    workers.relay.gone(2)
    found = workers.taken()[-1][1]
    assert sum(shown(found)) == 5
    assert found["processes"] == 2
