"""Measures models on test data, through the code that serves them.

Every model is loaded in every precision by the service's own loader (which also checks the
goldens), asked item by item through its batcher, and scored. A version's folder, a model's or an
export directory, on a data file (`models/evaluate/rows.py` says what is in one; for a detector
it is a COCO file):

    python -m models.evaluate PATH --items FILE [--images DIR] [--precisions fp32 int8]
                              [--zero-shot] [--to DIR] [--write-cards]

With `--zero-shot` the model chooses among all labels of the file, which its own need not be. A
workflow of a repository, on a data file (`models/evaluate/workflows.py` says what is in one):

    python -m models.evaluate --workflow NAME --items FILE [--repository DIR]

Without a path it is the starter models, on the test splits of the public data sets:

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

from models.evaluate.answering import DataFile
from models.evaluate.artefact import (
    Artefact,
    evaluate_artefact,
    table_of,
    write_into_card,
    write_results,
)
from models.evaluate.classification import measure_digits, measure_news_topics
from models.evaluate.detection import measure_cards
from models.evaluate.embedding import measure_emoji
from models.evaluate.errors import EvaluationError
from models.evaluate.measures import Measure, markdown_table
from models.evaluate.served import Served, graph_bytes, precisions_of, serve
from models.evaluate.translation import TEST_SETS, measure_zh_en
from models.evaluate.workflows import evaluate_workflow
from models.evaluate.zero_shot import measure_emoji_labels
from models.version_files import replace_table
from service.errors import ServiceError

REPOSITORY = Path(__file__).parents[1] / "repository"


@dataclass(frozen=True, slots=True)
class Subject:
    """How one model is measured, and the data sets that takes."""

    measure: Callable[[Served, Path], Awaitable[list[Measure]]]
    data_sets: tuple[str, ...]


async def _measure_emoji(served: Served, data: Path) -> list[Measure]:
    return [*await measure_emoji(served, data), *await measure_emoji_labels(served, data)]


SUBJECTS: Mapping[str, Subject] = {
    "news-topics": Subject(measure_news_topics, ("news_aggregator", "clinc150", "massive_en_zh")),
    "digits": Subject(measure_digits, ("mnist",)),
    "zh-en": Subject(measure_zh_en, tuple(TEST_SETS.values())),
    "cards": Subject(measure_cards, ("playing_cards",)),
    "emoji": Subject(_measure_emoji, ("emoji_text_image",)),
}


async def evaluate(model: str, data: Path, repository: Path) -> tuple[Path, str]:
    """Measure one model in every precision; return its folder and the table.

    Raises:
        ServiceError: it cannot be loaded, or fails its golden check.
        EvaluationError: it fails on an item.
    """
    results: dict[str, list[Measure]] = {}
    folder = repository
    for precision in precisions_of(repository, model):
        started = time.perf_counter()
        async with serve(repository, model, precision) as served:
            files = served.loaded.files
            folder = files.folder
            size = graph_bytes(files) / 1e6
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


def read_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m models.evaluate",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument("path", nargs="?", type=Path, help="a version or an export directory")
    parser.add_argument("--workflow", help="name of a workflow of the repository")
    parser.add_argument(
        "--items", type=Path, help="data file to measure the path or the workflow on"
    )
    parser.add_argument("--images", type=Path, help="folder of a COCO file's images")
    parser.add_argument(
        "--zero-shot", action="store_true", help="classify by the labels that the file has"
    )
    parser.add_argument("--precisions", nargs="+", default=[], help="all that there are if none")
    parser.add_argument("--to", type=Path, help="folder for JSON and pictures")
    parser.add_argument("--data", type=Path, help="folder of the starters' data sets")
    parser.add_argument("--models", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--repository", type=Path, default=REPOSITORY)
    parser.add_argument("--write-cards", action="store_true", help="rewrite the cards' tables")
    asked = parser.parse_args()
    subject = asked.path or asked.workflow
    if subject is not None and asked.items is None:
        parser.error("a path and a workflow need --items FILE")
    if asked.path is not None and asked.workflow is not None:
        parser.error("give either a path or --workflow")
    if subject is None and asked.data is None:
        parser.error("give a path and --items FILE, or --data DIR for the starters")
    return asked


def main() -> int:
    """Evaluate from the command line; returns the exit status."""
    asked = read_arguments()
    if asked.workflow is not None:
        return measure_workflow(asked)
    return evaluate_path(asked) if asked.path is not None else evaluate_starters(asked)


def measure_workflow(asked: argparse.Namespace) -> int:
    """Measure a workflow on a data file; return the exit status."""
    try:
        measures = asyncio.run(evaluate_workflow(asked.repository, asked.workflow, asked.items))
    except (EvaluationError, ServiceError) as error:
        tqdm.write(str(error), file=sys.stderr)
        return 1
    tqdm.write(markdown_table({asked.workflow: measures}))
    return 0


def evaluate_path(asked: argparse.Namespace) -> int:
    """Measure one artefact on a data file; return the exit status."""
    try:
        artefact = Artefact.at(asked.path)
        data = DataFile(asked.items, asked.images, asked.zero_shot)
        results = evaluate_artefact(artefact, data, asked.precisions)
        files = artefact.files()
    except (EvaluationError, ServiceError) as error:
        tqdm.write(str(error), file=sys.stderr)
        return 1
    tqdm.write(table_of(results))
    if asked.to is not None:
        write_results(files, asked.items, results, asked.to)
    if asked.write_cards:
        write_into_card(files.folder, asked.items, results)
    return 0


def evaluate_starters(asked: argparse.Namespace) -> int:
    """Measure the starters on their test splits; return the exit status."""
    if missing := missing_data(asked.models, asked.data):
        tqdm.write(f"{asked.data} lacks the folders: {', '.join(missing)}", file=sys.stderr)
        return 2
    tables: dict[str, str] = {}
    failed = False
    for model in tqdm(asked.models, desc="models"):
        try:
            folder, tables[model] = asyncio.run(evaluate(model, asked.data, asked.repository))
        except (EvaluationError, ServiceError) as error:
            tqdm.write(f"{model}: {error}", file=sys.stderr)
            failed = True
            continue
        if asked.write_cards:
            card = folder / "README.md"
            text = replace_table(card.read_text(encoding="utf-8"), tables[model])
            card.write_text(text, encoding="utf-8")
    for model, table in tables.items():
        tqdm.write(f"\n{model}\n{table}")
    return int(failed)
