"""What locust loads: `python -m locust -f loadtest/locustfile.py --headless --scenario smoke`.

The process that has the say (the only one, or the master) reads the scenario and judges; those
that send (the only one, or the workers) get everything from it.
"""

import logging
import secrets
import sys
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from locust import LoadTestShape, events
from locust.env import Environment
from locust.runners import MasterRunner, Runner, WorkerRunner

from loadtest.conductor import Conductor, Plan
from loadtest.scenario import Scenario, find
from loadtest.sender import Sender
from loadtest.users import ClassifyUser, DetectUser, EmbedUser, TranslateUser, set_counts

__all__ = ["ClassifyUser", "DetectUser", "EmbedUser", "OpenLoad", "TranslateUser"]

logger = logging.getLogger("loadtest")

_SPAWN_RATE = 100.0
_WRONG_USAGE = 3


class OpenLoad(LoadTestShape):
    """Keeps all users until every request has ended; the pace is not theirs."""

    conductor: ClassVar[Conductor]

    def tick(self) -> tuple[int, float] | None:
        """Return how many users there are, or None at the end."""
        return None if self.conductor.is_over else (self.conductor.users, _SPAWN_RATE)


@events.init_command_line_parser.add_listener
def add_options(parser: Any) -> None:
    """Add the options of a run to locust's own."""
    group = parser.add_argument_group("Quartet load test")
    add = group.add_argument
    add("--scenario", default="smoke", help="name in loadtest/scenarios, or path of a TOML file")
    add("--time-factor", type=float, default=1.0, help="multiply the duration of every stage")
    add("--rate-factor", type=float, default=1.0, help="multiply the request rate")
    add("--seed", type=int, default=None, help="the same seed asks the same at the same times")
    add("--out", default="loadtest/out", help="folder for report.json, report.html and report.png")
    # The master fills this in, and locust hands it to the workers: they need no file.
    add("--scenario-text", default="", help="not for people: the scenario itself")


@events.init.add_listener
def wire(environment: Environment, runner: Runner, **_: Any) -> None:
    """Connect what this process has to do with what locust tells."""
    options: Any = environment.parsed_options
    told = environment.events
    if not isinstance(runner, WorkerRunner):
        conductor = _conductor(environment, runner)
        told.spawning_complete.add_listener(lambda **_: conductor.begin())
        told.quitting.add_listener(lambda **_: _finish(environment, conductor))
        told.quit.add_listener(lambda **_: conductor.show())  # after locust's own tables
    if not isinstance(runner, MasterRunner):
        sender = Sender(runner)
        told.test_start.add_listener(
            lambda **_: sender.prepare(_scenario(options), int(options.seed))
        )
        told.test_stop.add_listener(lambda **_: sender.stop())


def _conductor(environment: Environment, runner: Runner) -> Conductor:
    options: Any = environment.parsed_options
    try:
        path = find(options.scenario)
        options.scenario_text = path.read_text(encoding="utf-8")
        scenario = _scenario(options)
    except ValueError as error:
        _refuse(str(error))
    if not environment.host:
        _refuse("no --host is given")
    if options.seed is None:
        options.seed = secrets.randbelow(2**31)
    environment.stop_timeout = scenario.timeout_seconds
    set_counts(scenario)
    plan = Plan(path.stem, scenario, options.seed, Path(options.out))
    OpenLoad.conductor = Conductor(plan, runner, environment.host)
    return OpenLoad.conductor


def _scenario(options: Any) -> Scenario:
    scenario = Scenario.parse(options.scenario_text)
    return scenario.scaled(options.time_factor, options.rate_factor)


def _refuse(reason: str) -> NoReturn:
    logger.error("%s", reason)
    sys.exit(_WRONG_USAGE)


def _finish(environment: Environment, conductor: Conductor) -> None:
    environment.process_exit_code = conductor.finish()
