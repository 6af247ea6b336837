"""Tries what could compute a version: compares answers and times with those of the first choice."""

import logging
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from service.engine.device import DeviceRuntime
from service.engine.side_by_side import compare_sessions, ratio, timed_batches
from service.registry.candidates import (
    Candidate,
    Choice,
    allowed,
    best,
    golden_deviation,
    inexact,
    judged,
    relative_difference,
    relative_limit,
    units,
)
from service.registry.opening import OpenVersion, open_version
from service.repository.deviation import deviation
from service.repository.exactness import Exactness
from service.repository.manifest import Precision
from service.repository.repository import VersionFiles, in_precision
from service.runtime.providers import Device
from service.runtime.stopping import apart
from service.tasks import Answer, Task
from service.types import (
    DeviceValue,
    Feed,
    Feeds,
    PreparedItem,
    Session,
    Sessions,
    Tensors,
    TensorSpec,
)

_log = logging.getLogger(__name__)

_ROWS = 4


@dataclass(frozen=True, slots=True)
class Option:
    """What to try: graphs of a precision, on a device."""

    precision: Precision
    device: Device


@dataclass(frozen=True, slots=True)
class _Opened:
    """The sessions of a candidate."""

    files: VersionFiles
    version: OpenVersion
    device: Device
    moved: Sessions
    """Those that are not the version's own."""


@dataclass(slots=True)
class _Noting:
    """A session whose outputs are noted, row by row."""

    session: Session
    rows: list[Tensors] = field(default_factory=list)

    @property
    def inputs(self) -> Mapping[str, TensorSpec]:
        """Return what the session takes."""
        return self.session.inputs

    @property
    def outputs(self) -> Mapping[str, TensorSpec]:
        """Return what the session gives."""
        return self.session.outputs

    def run_kept(
        self, feeds: Mapping[str, Feed], host: Collection[str]
    ) -> tuple[Feeds, Mapping[str, DeviceValue]]:
        """Run the session, and note nothing. Raises InferenceError."""
        return self.session.run_kept(feeds, host)

    def run(self, feeds: Mapping[str, Feed]) -> Feeds:
        """Run the session. Raises InferenceError."""
        found = self.session.run(feeds)
        for row in range(min((len(array) for array in found.values() if array.ndim), default=0)):
            self.rows.append({name: array[row] for name, array in found.items() if array.ndim})
        return found


@dataclass(slots=True)
class Trial:
    """The candidates of one version, compared with its first choice."""

    runtime: DeviceRuntime
    first: Device
    """Of the first choice."""
    files: VersionFiles
    version: OpenVersion
    exactness: Exactness
    max_batch_size: int
    rows: list[Candidate] = field(default_factory=list)
    opened: dict[int, _Opened] = field(default_factory=dict)
    """By the place of its candidate in `rows`."""
    prepared: Sequence[PreparedItem] = ()
    answers: Sequence[Answer] = ()
    results: Sequence[Tensors] = ()

    async def begin(self) -> None:
        """Compute what candidates are compared with."""
        preprocess = self.version.family.processor.preprocess
        self.prepared = await apart(lambda: [preprocess(one.item) for one in self.files.goldens])
        own = self.version.runnable.instances
        device = self.first
        self.rows.append(
            Candidate(
                device.kind,
                self.files.precision,
                device.inference_precision,
                tuple(own.single_thread),
                "first_choice",
                ratio=1.0,
            )
        )
        self.answers, self.results = await self._in_turn(self._computed, own.single_thread)
        if self.files.goldens:
            self.rows[0] = replace(self.rows[0], deviation=self._deviation(self.answers))

    async def attempt(self, option: Option, seconds: float) -> None:
        """Try one candidate: open it, compare its answers, and if they are exact its time."""
        runtime, device = self.runtime, option.device
        movable = self._movable()
        row = Candidate(
            device.kind, option.precision, device.inference_precision, movable, "refused"
        )
        try:
            async with runtime.turns.working():
                opened = await self._open(option, movable)
            sessions = {**opened.version.runnable.instances.single_thread, **opened.moved}
            answers, results = await self._in_turn(self._computed, sessions)
        except Exception as error:  # a library may raise anything for a graph that it cannot run
            self.rows.append(replace(row, reason=str(error)))
            return
        row = replace(row, deviation=self._deviation(answers, results))
        if reason := self._inexact(answers, results):
            self.rows.append(replace(row, verdict="not_exact", reason=reason))
            return
        async with runtime.turns.measuring():
            await self._time(row, opened, seconds)
        self._close_slower()

    def _close_slower(self) -> None:
        """Close what loses to another candidate for the same sessions, in the same precision."""
        rows = [self.rows[place] for place in self.opened]

        def loses(row: Candidate) -> bool:
            return any(
                (one.precision, one.sessions) == (row.precision, row.sessions)
                and (one.ratio or 1.0) < (row.ratio or 1.0)
                for one in rows
            )

        self.opened = {
            place: one for place, one in self.opened.items() if not loses(self.rows[place])
        }

    async def end(self) -> tuple[VersionFiles, OpenVersion, Choice]:
        """Return the version with the fastest candidates."""
        lanes = {name: lane.name for lane, name in self._units()}
        winners = best(self.rows, self.files.precision, lanes)
        self.opened = {
            place: one for place, one in self.opened.items() if self.rows[place] in winners
        }
        files, version, own = self.files, self.version, self.version.runnable.instances
        before = dict(own.devices)
        for one in self.opened.values():  # which closes the sessions of the first choice
            files, version = one.files, one.version
            version.runnable.instances.move(one.device, one.moved)
        if winners and not await self._is_fast_unbatched(version, before):
            reason = "an unbatched item takes longer on all cores"
            winners, lost = [], winners
            self.rows = [
                replace(row, verdict="not_faster", reason=reason) if row in lost else row
                for row in self.rows
            ]
            self.opened, files, version = {}, self.files, self.version
            for name, device in before.items():
                if own.devices[name] != device:
                    own.move(device, await apart(own.opened_on, device, [name]))
        self.rows = [
            replace(row, verdict="not_faster", reason="another candidate is faster")
            if row.verdict == "chosen" and row not in winners
            else row
            for row in self.rows
        ]
        for row in self.rows:
            facts = {"model": files.model, "version": files.version, **asdict(row)}
            _log.info("candidate", extra={**facts, "sessions": list(row.sessions)})
        return files, version, Choice(self.rows, allowed(self.exactness, files))

    def _movable(self) -> tuple[str, ...]:
        own, fixed = self.version.runnable.instances, self.version.family.traits.in_place
        return tuple(name for name in own.single_thread if name not in fixed)

    def _units(self) -> Sequence[tuple[Any, str]]:
        return units(self.version.runnable.model.lanes, self._movable())

    async def _open(self, option: Option, names: Sequence[str]) -> _Opened:
        files, version, runtime = self.files, self.version, self.runtime
        if option.precision != files.precision:
            files = await apart(in_precision, files, option.precision)
            version = await open_version(files, runtime, False)
        instances, device = version.runnable.instances, option.device
        is_own = all(instances.devices[name] == device for name in names)
        moved = {} if is_own else await apart(instances.opened_on, device, names)
        return _Opened(files, version, device, moved)

    async def _time(self, row: Candidate, opened: _Opened, seconds: float) -> None:
        """Time a candidate for each session alone, or as a whole in another precision."""
        model, own = self.version.runnable.model, self.version.runnable.instances
        is_whole = row.precision != self.files.precision
        parts = [(None, row.sessions)] if is_whole else [(lane, (n,)) for lane, n in self._units()]
        for lane, names in parts:
            lanes = model.lanes if lane is None else [lane]
            batches = [b for one in lanes for b in timed_batches(model, one, self.max_batch_size)]
            whole = {**opened.version.runnable.instances.single_thread, **opened.moved}
            other = whole if is_whole else {**own.single_thread, **{n: whole[n] for n in names}}
            pairs = await self._in_turn(
                compare_sessions,
                model.infer,
                (own.single_thread, other),
                batches,
                seconds / len(parts),
            )
            found = judged(replace(row, sessions=tuple(names)), pairs)
            if found.verdict == "chosen":
                moved = {name: opened.moved[name] for name in names if name in opened.moved}
                self.opened[len(self.rows)] = replace(opened, moved=moved)
            self.rows.append(found)

    async def _is_fast_unbatched(self, chosen: OpenVersion, before: Mapping[str, Device]) -> bool:
        """Return whether a lone item is at least as fast on all cores as with the first choice.

        Args:
            chosen: the version as it was chosen.
            before: by session, the device of the first choice.
        """
        own, instances = self.version.runnable.instances, chosen.runnable.instances
        if not own.has_two:
            return True
        async with self.runtime.turns.measuring():
            ours: Sessions = {}
            for name, device in before.items():
                ours = {**ours, **await apart(own.opened_on, device, [name], True)}
            if await self._is_as_fast(ours, instances.single_thread):
                return True
            await apart(instances.open_multi_thread)
            return await self._is_as_fast(ours, instances.multi_thread or {})

    async def _is_as_fast(self, ours: Sessions, theirs: Sessions) -> bool:
        model = self.version.runnable.model
        for lane in model.lanes:
            batches = timed_batches(model, lane, 1)[-1:]
            pairs = await self._in_turn(
                compare_sessions, model.infer, (ours, theirs), batches, 0.3, time.perf_counter
            )
            if ratio(pairs) > 1:
                return False
        return True

    def _computed(self, sessions: Sessions) -> tuple[Sequence[Answer], Sequence[Tensors]]:
        """Return the answers to the goldens; without goldens the results of made-up items."""
        model, postprocess = self.version.runnable.model, self.version.family.processor.postprocess
        if self.files.goldens:
            return [
                postprocess(model.infer(sessions, [prepared])[0], golden.item)
                for prepared, golden in zip(self.prepared, self.files.goldens, strict=True)
            ], ()
        noting: Mapping[str, _Noting] = {}
        if self.files.manifest.task is Task.DETECT:  # which objects are kept changes in jumps
            sessions = noting = {name: _Noting(one) for name, one in sessions.items()}
        found = []
        for lane in model.lanes:
            probes = [model.probe(lane.name, length) for length in lane.lengths[:2]]
            found += [model.infer(sessions, [probe])[0] for probe in probes]
            found += model.infer(sessions, [probes[0]] * min(_ROWS, self.max_batch_size))
        return (), [row for one in noting.values() for row in one.rows] or found

    def _deviation(self, answers: Sequence[Answer], results: Sequence[Tensors] = ()) -> float:
        if answers:
            goldens = self.files.goldens
            found = [deviation(a, g.answer) for a, g in zip(answers, goldens, strict=True)]
            return golden_deviation(self.files, found)
        return max(map(relative_difference, results, self.results), default=0.0)

    def _inexact(self, answers: Sequence[Answer], results: Sequence[Tensors]) -> str | None:
        if answers:
            return inexact(self.exactness, self.files, answers, self.answers)
        limit = relative_limit(self.exactness, self.files.tolerance)
        if self._deviation(answers, results) <= limit:
            return None
        return f"results deviate by more than {limit:g} of the largest value of a channel"

    async def _in_turn(self, function: Any, *arguments: Any) -> Any:
        return await self.runtime.in_turn(function, *arguments)
