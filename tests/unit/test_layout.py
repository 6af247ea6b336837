"""Files are short enough to be read at once."""

from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("service", "models", "tests", "benchmarks", "loadtest", "drills", "deploy", "tools")
MOST_LINES = 320


def sources() -> Iterator[Path]:
    for folder in FOLDERS:
        for pattern in ("*.py", "*.js"):
            yield from (ROOT / folder).rglob(pattern)


def test_no_file_is_longer_than_the_limit() -> None:
    lengths = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n")
        for path in sources()
    }
    assert len(lengths) > 500  # it looks where the files are
    too_long = {path: length for path, length in lengths.items() if length > MOST_LINES}
    assert not too_long, "split these files by the questions that they answer"
