"""What loads have measured, kept on disk so that the next start need not measure it again.

One file for each version, precision, device and kind of machine. A file that cannot be read counts
as absent, and one that cannot be written is not kept: nothing depends on it but the time of a load.
"""

import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from service.engine.curve import BatchCurve
from service.engine.device import DeviceRuntime
from service.engine.policy import BatchLimits
from service.registry.candidates import Candidate, Choice
from service.registry.parity import Comparison, Parity
from service.repository.goldens import GOLDENS_FOLDER, GOLDENS_NAME
from service.repository.manifest import MANIFEST_NAME
from service.repository.repository import VersionFiles
from service.runtime.machine import machine

_log = logging.getLogger(__name__)

_SCHEMA = 2
"""Raise when what is measured, or how, changes."""


@dataclass(frozen=True, slots=True)
class Measurements:
    """What one load has found out."""

    curves: Mapping[str, BatchCurve]
    """By lane."""
    has_multi_thread: bool
    """Whether multi-thread sessions pay."""
    padded: Sequence[str]
    """Graphs that read the padding of shorter texts."""
    parity: Parity | None = None
    memory_bytes: int | None = None
    """What the version takes, with the memory of its batches; None if other loads ran meanwhile."""
    choice: Choice | None = None
    """What computes it; None if there was nothing to choose."""

    def to_json(self) -> str:
        """Return the text of a file."""
        curves = {
            lane: {"lengths": one.lengths, "table": one.table, "dispatch": one.dispatch}
            for lane, one in self.curves.items()
        }
        parity = None if self.parity is None else asdict(self.parity)
        facts = {**asdict(replace(self, curves={})), "curves": curves, "parity": parity}
        return json.dumps(facts)

    @classmethod
    def from_json(cls, text: bytes) -> "Measurements":
        """Read a file. Raises ValueError, LookupError, TypeError or AttributeError if broken."""
        facts = json.loads(text)
        curves = {lane: _curve(**one) for lane, one in facts.pop("curves").items()}
        parity, choice = facts.pop("parity"), facts.pop("choice")
        return cls(
            **facts,
            curves=curves,
            parity=None if parity is None else _parity(**parity),
            choice=None if choice is None else _choice(**choice),
        )


class MeasurementsFolder:
    """The folder of kept measurements; None keeps nothing."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder

    def __repr__(self) -> str:
        return f"<MeasurementsFolder {self._folder}>"

    def read(self, key: str) -> Measurements | None:
        """Return what was kept under a key; None if nothing usable is there."""
        if self._folder is None:
            return None
        try:
            return Measurements.from_json(self._file(key).read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            _log.warning("measurements not read", extra={"reason": str(error)})
            return None

    def write(self, key: str, found: Measurements) -> None:
        """Keep measurements, whole or not at all."""
        if self._folder is None:
            return
        file = self._file(key)
        draft = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            draft.write_text(found.to_json(), encoding="utf-8")
            draft.replace(file)
        except OSError as error:
            _log.info("measurements not kept", extra={"reason": str(error)})
            with suppress(OSError):
                draft.unlink(missing_ok=True)

    def _file(self, key: str) -> Path:
        assert self._folder is not None  # noqa: S101 - callers check
        return self._folder / f"{key}.json"


def measurements_key(
    files: VersionFiles,
    runtime: DeviceRuntime,
    limits: BatchLimits,
    seconds: float,
    choice: Sequence[object] = (),
) -> str:
    """Return a hash of everything that measurements depend on. Reads small files.

    Args:
        files: the version; its digest stands for the files that change answers.
        runtime: the device and its threads.
        limits: of its batches, before anything was found out.
        seconds: time to measure batches.
        choice: the settings that decide what computes it.

    Raises:
        OSError: a file cannot be read.
    """
    facts = {
        "schema": _SCHEMA,
        "digest": files.digest,
        "precision": files.precision,
        "not in the digest": _not_in_digest(files.folder),
        "device": str(runtime.device),
        "provider": runtime.device.provider.name,
        "threads": [*runtime.threads, runtime.slots.threads],
        "largest": [limits.max_batch_size, limits.max_batch_cost],
        "seconds": seconds,
        "choice": choice,
        **machine(),
    }
    text = json.dumps(facts, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _not_in_digest(folder: Path) -> Mapping[str, str]:
    """Return the hashes of the files that the digest leaves out and a load reads."""
    pictures = sorted((folder / GOLDENS_FOLDER).rglob("*"))
    files = [folder / MANIFEST_NAME, folder / GOLDENS_NAME, *pictures]
    return {
        file.relative_to(folder).as_posix(): hashlib.blake2b(file.read_bytes()).hexdigest()
        for file in files
        if file.is_file()
    }


def _curve(lengths: Sequence[int], table: Sequence[Sequence[float]], dispatch: float) -> BatchCurve:
    points = {
        (rows, length): seconds - dispatch
        for length, row in zip(lengths, table, strict=True)
        for rows, seconds in enumerate(row, 1)
    }
    return BatchCurve.of(points, dispatch)


def _choice(candidates: Sequence[Mapping[str, Any]], tolerance: float) -> Choice:
    rows = [Candidate(**{**one, "sessions": tuple(one["sessions"])}) for one in candidates]
    return Choice(rows, tolerance)


def _parity(ways: Mapping[str, Any], **facts: Any) -> Parity:
    return Parity(ways={way: Comparison(**found) for way, found in ways.items()}, **facts)
