"""What a drill measured and which promises it checked."""

import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_PROGRESS_SECONDS = 5.0
_EXAMPLES_SHOWN = 3
_LONGEST_EXAMPLE = 600


@dataclass(frozen=True, slots=True)
class Row:
    """One line of a table: a figure, or a promise with what was found."""

    drill: str
    name: str
    found: str
    kept: bool | None = None
    """None for a figure without a promise."""


@dataclass
class Report:
    """The results of one drill."""

    drill: str
    folder: Path
    """Where the examples of broken promises are written."""
    rows: list[Row] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    _examples: dict[str, list[str]] = field(default_factory=dict)
    _shown_at: float = field(default_factory=time.monotonic)

    def say(self, text: str) -> None:
        """Print a line of progress."""
        sys.stdout.write(f"{self.drill}: {text}\n")
        sys.stdout.flush()

    def progress(self) -> None:
        """Print the counts, at most every five seconds."""
        now = time.monotonic()
        if now - self._shown_at >= _PROGRESS_SECONDS:
            self._shown_at = now
            counts = ", ".join(f"{count:,} {name}" for name, count in self.counts.most_common(8))
            broken = sum(len(examples) for examples in self._examples.values())
            self.say(f"{counts}{f', {broken} broken promises' if broken else ''}")

    def figure(self, name: str, value: object) -> None:
        """Record a measured value."""
        self.rows.append(Row(self.drill, name, _text(value)))
        self.say(f"{name}: {_text(value)}")

    def broken(self, promise: str, example: str) -> None:
        """Record one case in which a promise did not hold; `example` says how to repeat it."""
        examples = self._examples.setdefault(promise, [])
        examples.append(example)
        if len(examples) <= _EXAMPLES_SHOWN:
            self.say(f"BROKEN {promise}: {example[:_LONGEST_EXAMPLE]}")

    def judge(self, promise: str, *, found: object = "", kept: bool = True) -> None:
        """Record whether a promise was kept: `kept`, and no case of it was reported as broken."""
        cases = len(self._examples.get(promise, ()))
        text = _text(found) or ("yes" if kept else "no")
        if cases:
            text = f"{text}, {cases:,} broken" if _text(found) else f"{cases:,} broken"
        row = Row(self.drill, promise, text, kept and not cases)
        self.rows.append(row)
        self.say(f"{'kept' if row.kept else 'BROKEN'}: {promise} ({text})")

    @property
    def is_kept(self) -> bool:
        """Return whether all promises were kept, those that were never judged included."""
        return not self._examples and all(row.kept is not False for row in self.rows)

    def write_examples(self) -> Path | None:
        """Write every case of a broken promise to a file and return its path."""
        if not self._examples:
            return None
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{self.drill}.txt"
        lines = (
            f"{promise}: {example}"
            for promise, examples in self._examples.items()
            for example in examples
        )
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return path


def table(rows: Sequence[Row], *, markdown: bool) -> Iterable[str]:
    """Yield the lines of a table, for a terminal or for a document."""
    cells = [("drill", "what", "found", "kept")]
    cells += [(row.drill, row.name, row.found, _kept(row.kept)) for row in rows]
    if markdown:
        yield "| drill | what | found | kept |"
        yield "| --- | --- | --- | --- |"
        yield from (f"| {' | '.join(line)} |" for line in cells[1:])
        return
    widths = [max(len(line[column]) for line in cells) for column in range(3)]
    for line in cells:
        yield "  ".join([*(cell.ljust(w) for cell, w in zip(line, widths, strict=False)), line[3]])


def _kept(kept: bool | None) -> str:
    return "" if kept is None else "yes" if kept else "NO"


def _text(value: object) -> str:
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 10 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
