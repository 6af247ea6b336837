"""A process that sends: the only one, or a worker."""

from typing import Any, NoReturn

import gevent
from locust.runners import Runner

from loadtest import generator
from loadtest.kinds import Task
from loadtest.pacing import Portioned
from loadtest.payloads import Material, Payloads
from loadtest.run import Run
from loadtest.scenario import Scenario
from loadtest.users import OpenLoopUser

_HAND_OVER_SECONDS = 1.0


class Sender:
    """Takes part in the runs that the master starts."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._material = Material()
        self._run: Run | None = None
        self._greenlets: list[gevent.Greenlet[..., None]] = []
        runner.register_message("begin", self.begin)

    def prepare(self, scenario: Scenario, seed: int) -> None:
        """Get ready, before there are users."""
        self.stop()
        self._run = Run(scenario, Payloads(seed, self._material), seed)
        OpenLoopUser.prepare(self._run)

    def begin(self, msg: Any, **_: Any) -> None:
        """Start to send this process's part."""
        run = self._run
        if run is None:
            raise RuntimeError("a run cannot begin before its scenario is known")
        portions = msg.data["portions"]
        run.begin({Task(task): Portioned(*numbers) for task, numbers in portions.items()})
        self._greenlets = [
            gevent.spawn(generator.watch, run),
            gevent.spawn(self._hand_over, run, msg.data["index"]),
        ]

    def stop(self) -> None:
        """Stop the background tasks of a run."""
        gevent.killall(self._greenlets)
        self._greenlets = []

    def _hand_over(self, run: Run, index: int) -> NoReturn:
        while True:
            gevent.sleep(_HAND_OVER_SECONDS)
            done = run.is_done  # asked first: what ends afterwards is handed over next time
            message = {"index": index, "done": done, "tally": run.hand_over().dump()}
            self._runner.send_message("seen", message)
