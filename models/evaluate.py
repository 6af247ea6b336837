"""Measures the starter models on their test splits, through the code that serves them.

Every model is loaded in every precision by the service's own loader (which also checks the
goldens), asked item by item through its batcher, and scored. With `--write-cards` the tables
in the model cards are written anew:

    python -m models.evaluate --data DIR [--models news-topics digits] [--write-cards]
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from models.evaluation.classification import measure_digits, measure_news_topics
from models.evaluation.detection import measure_cards
from models.evaluation.embedding import measure_emoji
from models.evaluation.measures import Measure, markdown_table
from models.evaluation.served import Served, precisions_of, serve
from models.evaluation.translation import TEST_SETS, measure_zh_en
from models.export.goldens import replace_table
from service.errors import ServiceError

REPOSITORY = Path(__file__).with_name("repository")


@dataclass(frozen=True, slots=True)
class Subject:
    """How one model is measured, and the data sets that takes."""

    measure: Callable[[Served, Path], Awaitable[list[Measure]]]
    data_sets: tuple[str, ...]


SUBJECTS: Mapping[str, Subject] = {
    "news-topics": Subject(measure_news_topics, ("news_aggregator",)),
    "digits": Subject(measure_digits, ("mnist",)),
    "zh-en": Subject(measure_zh_en, tuple(TEST_SETS.values())),
    "cards": Subject(measure_cards, ("playing_cards",)),
    "emoji": Subject(measure_emoji, ("emoji_text_image",)),
}


async def evaluate(model: str, data: Path, repository: Path) -> tuple[Path, str]:
    """Measure one model in every precision; return its folder and the table.

    Raises:
        ServiceError: it cannot be loaded, fails its golden check, or fails on an item.
    """
    results: dict[str, list[Measure]] = {}
    folder = repository
    for precision in precisions_of(repository, model):
        started = time.perf_counter()
        async with serve(repository, model, precision) as served:
            files = served.loaded.files
            folder = files.folder
            size = sum(path.stat().st_size for path in files.graphs.values()) / 1e6
            measures = await SUBJECTS[model].measure(served, data)
            parity = served.loaded.parity
        results[precision] = [
            *measures,
            Measure("largest deviation from the goldens", parity.deviation if parity else 0.0, 6),
            Measure("size of the graphs in MB", size, 2),
        ]
        tqdm.write(f"{model} {precision}: {time.perf_counter() - started:.0f} s")
    return folder, markdown_table(results)


def missing_data(models: list[str], data: Path) -> list[str]:
    """Return the data sets of the models that are not folders of the data directory."""
    wanted = [name for model in models for name in SUBJECTS[model].data_sets]
    return [name for name in wanted if not (data / name).is_dir()]


def main() -> int:
    """Evaluate from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the data sets")
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--repository", type=Path, default=REPOSITORY)
    parser.add_argument("--write-cards", action="store_true", help="rewrite the cards' tables")
    arguments = parser.parse_args()
    if missing := missing_data(arguments.models, arguments.data):
        tqdm.write(f"{arguments.data} lacks the folders: {', '.join(missing)}", file=sys.stderr)
        return 2
    tables: dict[str, str] = {}
    failed = False
    for model in tqdm(arguments.models, desc="models"):
        try:
            folder, tables[model] = asyncio.run(
                evaluate(model, arguments.data, arguments.repository)
            )
        except ServiceError as error:
            tqdm.write(f"{model}: {error}", file=sys.stderr)
            failed = True
            continue
        if arguments.write_cards:
            card = folder / "README.md"
            text = replace_table(card.read_text(encoding="utf-8"), tables[model])
            card.write_text(text, encoding="utf-8")
    for model, table in tables.items():
        tqdm.write(f"\n{model}\n{table}")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
