"""Scenario files: what is sent, how fast, and which level must be held.

A scenario is a TOML file in `loadtest/scenarios/`, or anywhere else. A name that is not known
here is refused, not ignored.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from loadtest.kinds import Kind, Task

FOLDER = Path(__file__).with_name("scenarios")
MOST_SECONDS = 6 * 3600.0
MOST_REQUESTS = 2_000_000

_Share = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]
_STRICT = ConfigDict(extra="forbid", allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class Level:
    """How long answers to one kind of request may take, counted from when they were due."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    p50_ms: _Positive
    p95_ms: _Positive
    p99_ms: _Positive


@dataclass(frozen=True, slots=True)
class Portion:
    """How much of the load is of one kind."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    share: _Positive
    """Weight among the kinds; they need not add up to anything."""
    repeats: _Share = 0.0
    """Share of requests that were asked before, as the response cache sees them."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A while of constant rate."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    name: Annotated[str, Field(min_length=1)]
    seconds: _Positive
    rate: _Positive
    """Requests a second, all kinds together."""
    level: str
    """Name of the table of levels that holds here."""
    settle_seconds: Annotated[float, Field(ge=0)] = 0.0
    """What is due in the first seconds of the stage is sent and shown but not judged."""
    refusals: Literal["none", "allowed", "expected"] = "none"
    """Whether 429 and 503 with Retry-After are failures, are right, or must even be seen."""
    max_refusal_p99_ms: _Positive | None = None
    """Upper bound of the time to a refusal, in seconds."""
    max_error_share: _Share = 0.0
    min_answered_rate: _Positive | None = None
    """Answers a second that there must be however great the load is."""


@dataclass(frozen=True, slots=True)
class Generator:
    """When the load generator itself is to blame, and the run says nothing of the service."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    max_lag_p99_ms: _Positive = 50.0
    """How late its own timers may go off."""
    max_cpu_share: _Share = 0.9
    """Of one core, over any five seconds of one process."""
    max_without_user_share: _Share = 0.01
    """Share of requests that were due while every user of their task was busy."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """The parameters of a run."""

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT
    about: str
    stages: Annotated[Sequence[Stage], Field(min_length=1)]
    mix: Annotated[Mapping[Kind, Portion], Field(min_length=1)]
    levels: Mapping[str, Mapping[Kind, Level]]
    users: Mapping[Task, Annotated[int, Field(gt=0, le=2000)]]
    """Most requests of a task that are on their way at once."""
    arrivals: Literal["poisson", "constant"] = "poisson"
    timeout_seconds: Annotated[float, Field(gt=0, le=120)] = 10.0
    """A request without an answer for so long has failed."""
    generator: Generator = Generator()
    service: Mapping[str, str] = field(default_factory=dict)
    """Settings, by their names in the environment, of a service that the run starts itself."""

    @classmethod
    def parse(cls, text: str) -> "Scenario":
        """Read a scenario. Raises ValueError if it is wrong, and says where."""
        try:
            scenario = _ADAPTER.validate_python(tomllib.loads(text))
        except ValidationError as error:
            raise ValueError("; ".join(_told(one) for one in error.errors())) from None
        scenario.check()
        return scenario

    def check(self) -> None:
        """Raise ValueError on parts that contradict one another, or ask for too much."""
        names = [stage.name for stage in self.stages]
        if len(set(names)) < len(names):
            raise ValueError("two stages have the same name")
        if idle := [task for task in self.tasks() if task not in self.users]:
            raise ValueError(f"no users for {', '.join(idle)}")
        for stage in self.stages:
            missing = [kind for kind in self.mix if kind not in self.levels.get(stage.level, {})]
            if missing:
                raise ValueError(f"level {stage.level!r} says nothing of {', '.join(missing)}")
            if stage.settle_seconds >= stage.seconds:
                raise ValueError(f"stage {stage.name!r} ends before it has settled")
        if self.seconds > MOST_SECONDS or self.requests > MOST_REQUESTS:
            raise ValueError(
                f"{self.seconds:.0f} s and {self.requests:.0f} requests are too many; "
                f"at most {MOST_SECONDS:.0f} s and {MOST_REQUESTS} requests"
            )

    @property
    def seconds(self) -> float:
        """Return how long requests are sent."""
        return sum(stage.seconds for stage in self.stages)

    @property
    def requests(self) -> float:
        """Return how many requests are sent, on average."""
        return sum(stage.seconds * stage.rate for stage in self.stages)

    def starts(self) -> Sequence[float]:
        """Return when each stage begins, in seconds from the first."""
        return [sum(s.seconds for s in self.stages[:n]) for n in range(len(self.stages))]

    def tasks(self) -> Sequence[Task]:
        """Return the tasks that the mix asks for."""
        return sorted({kind.task for kind in self.mix})

    def kinds(self, task: Task) -> Sequence[Kind]:
        """Return the kinds of a task in the mix."""
        return [kind for kind in self.mix if kind.task is task]

    def share(self, task: Task) -> float:
        """Return the share of the load that a task gets."""
        total = sum(portion.share for portion in self.mix.values())
        return sum(self.mix[kind].share for kind in self.kinds(task)) / total

    def scaled(self, time: float = 1.0, rate: float = 1.0) -> "Scenario":
        """Return it with stages of other length and rate, but the same level. Raises ValueError."""
        if not (time > 0 and rate > 0):
            raise ValueError("a scenario can be scaled by positive factors only")
        stages = [
            replace(
                stage,
                seconds=stage.seconds * time,
                settle_seconds=stage.settle_seconds * min(1.0, time),
                rate=stage.rate * rate,
                min_answered_rate=stage.min_answered_rate
                and stage.min_answered_rate * min(1, rate),
            )
            for stage in self.stages
        ]
        scaled = replace(self, stages=stages)
        scaled.check()
        return scaled


_ADAPTER = TypeAdapter(Scenario)


def find(name: str) -> Path:
    """Return the file of a scenario by name or path. Raises ValueError if there is none."""
    shipped = {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
    if name in shipped:
        return shipped[name]
    if (path := Path(name)).is_file():
        return path
    raise ValueError(f"no scenario {name!r}; there are {', '.join(shipped)}, or a path to a file")


def _told(error: Any) -> str:
    return f"{'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
