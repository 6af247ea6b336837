"""The process that has the say: starts the clock everywhere, collects, and judges at the end."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gevent
from locust.runners import MasterRunner, Runner

from loadtest.judge import Judgement, judge
from loadtest.report import Facts, show, write
from loadtest.scenario import Scenario
from loadtest.tally import Tally
from loadtest.users import user_class

_PATIENCE_SECONDS = 5.0
"""Beyond the scenario and its timeout: for the messages of workers."""
_START_SECONDS = 60.0
"""For all users to be there."""
_LOOK_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of a run."""

    name: str
    scenario: Scenario
    seed: int
    out: Path


class Conductor:
    """Runs one plan on this process alone or on workers."""

    def __init__(self, plan: Plan, runner: Runner, host: str) -> None:
        self.plan, self._runner, self._host = plan, runner, host
        self._tally = Tally()
        self._parts = 0
        self._done: set[int] = set()
        self._created_at = time.monotonic()
        self._begun_at: float | None = None
        self._judgement: Judgement | None = None
        runner.register_message("seen", self.collect)

    def __repr__(self) -> str:
        return f"<Conductor {len(self._tally)} seen, {len(self._done)} of {self._parts} done>"

    @property
    def users(self) -> int:
        """Return how many users there are on all processes."""
        return sum(self.plan.scenario.users[task] for task in self.plan.scenario.tasks())

    @property
    def is_over(self) -> bool:
        """Tell whether all requests have ended, or should have."""
        now = time.monotonic()
        if self._begun_at is None:
            return now - self._created_at > _START_SECONDS
        scenario = self.plan.scenario
        longest = scenario.seconds + scenario.timeout_seconds + _PATIENCE_SECONDS
        return len(self._done) == self._parts or now - self._begun_at > longest

    def begin(self) -> None:
        """Start the clock on every process, once all users are there.

        Locust calls this after a second although workers may not have reported their users yet.
        Each worker's part of the load is that of its users, so the reports are waited for.
        """
        while self._runner.user_count < self.users:
            if self.is_over:
                return
            gevent.sleep(_LOOK_SECONDS)
        if self._begun_at is not None:
            return
        self._begun_at = time.monotonic()
        runner = self._runner
        # Alone, a message goes to this process itself.
        counts: dict[str | None, Mapping[str, int]] = {None: runner.user_classes_count}
        if isinstance(runner, MasterRunner):
            counts = {worker.id: worker.user_classes_count for worker in runner.clients.all}
        self._parts = len(counts)
        first = dict.fromkeys(self.plan.scenario.tasks(), 0)
        for index, (client, users) in enumerate(counts.items()):
            portions = {}
            for task in first:
                count = users.get(user_class(task).__name__, 0)
                portions[task.value] = (first[task], count, self.plan.scenario.users[task])
                first[task] += count
            runner.send_message("begin", {"index": index, "portions": portions}, client)

    def collect(self, msg: Any, **_: Any) -> None:
        """Add what a process has seen."""
        self._tally.merge(Tally.load(msg.data["tally"]))
        if msg.data["done"]:
            self._done.add(msg.data["index"])

    def finish(self) -> int:
        """Judge the run and write the reports; return the exit status."""
        plan = self.plan
        self._judgement = judge(plan.scenario, self._tally, plan.seed)
        write(self._facts(), plan.scenario, self._tally, self._judgement, plan.out)
        return self._judgement.verdict.value

    def show(self) -> None:
        """Tell the result on standard output; nothing, if it could not be judged."""
        if self._judgement is not None:
            show(self._facts(), self._judgement, self._tally, self.plan.out)

    def _facts(self) -> Facts:
        return Facts(self.plan.name, self._host, self.plan.seed, max(1, self._parts))
