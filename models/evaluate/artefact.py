"""Any version or export directory, measured in its precisions on a data file."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from models.evaluate.answering import DataFile, measured, questions_of
from models.evaluate.errors import EvaluationError
from models.evaluate.findings import Result, as_json
from models.evaluate.measures import markdown_table
from models.evaluate.pictures import Point, draw_confusion, draw_front
from models.evaluate.served import graph_bytes, precisions_of, serve
from models.version_files import TABLE_END, TABLE_START, replace_table
from service.repository.manifest import Precision
from service.repository.paths import MODEL_NAME, VERSION_NAME
from service.repository.repository import ModelRepository, VersionFiles

RESULTS, FRONT = "evaluation.json", "evaluation.png"
_TIMED = 50
"""Items whose time alone is taken."""


@dataclass(frozen=True, slots=True)
class Artefact:
    """Where an artefact lies, as a repository would have it."""

    repository: Path
    model: str
    version: int | None
    """None is the newest, or the directory itself."""

    @classmethod
    def at(cls, path: Path) -> "Artefact":
        """Take a version's folder, a model's folder, or an export directory.

        Raises:
            EvaluationError: there is no such folder, or no model can have its name.
        """
        folder = path.resolve()
        if not folder.is_dir():
            raise EvaluationError(f"there is no folder {path}")
        number = int(folder.name) if VERSION_NAME.fullmatch(folder.name) else None
        model = folder if number is None else folder.parent
        if not MODEL_NAME.fullmatch(model.name):
            raise EvaluationError(f"{model.name!r} cannot be a model's name: rename the folder")
        return cls(model.parent, model.name, number)

    def files(self) -> VersionFiles:
        """Return what lies there. Raises ModelLoadError, ModelNotFoundError."""
        return ModelRepository(self.repository).open(self.model, self.version)


def evaluate_artefact(
    artefact: Artefact, data: DataFile, precisions: Sequence[str] = ()
) -> list[Result]:
    """Measure an artefact in these precisions; in all it has if none is named.

    Raises:
        EvaluationError: it has no such precision, or the data are not what it answers.
        ServiceError: it cannot be loaded, or fails its golden check.
    """
    place = artefact.repository, artefact.model
    present = precisions_of(*place, artefact.version)
    if unknown := sorted(set(precisions) - set(present)):
        raise EvaluationError(f"there is no {unknown[0]}, only {', '.join(present)}")
    chosen = [one for one in present if not precisions or one in precisions]
    with tqdm(chosen, desc=artefact.model, unit="precision") as bar:
        return [asyncio.run(_result(artefact, precision, data)) for precision in bar]


async def _result(artefact: Artefact, precision: Precision, data: DataFile) -> Result:
    place = artefact.repository, artefact.model
    async with serve(*place, precision, artefact.version) as served:
        files, parity = served.loaded.files, served.loaded.parity
        questions = questions_of(files.manifest.task, data)
        asked = await questions.served_by(served)
        findings = await measured(asked, questions)
        seconds = await asked.seconds_alone(questions.items[:_TIMED])
    return Result(
        precision,
        findings,
        seconds * 1e3,
        graph_bytes(files) / 1e6,
        parity.deviation if parity else None,
    )


def table_of(results: Sequence[Result]) -> str:
    """Return a Markdown table: a row a measure, a column a precision."""
    return markdown_table({one.precision: one.columns for one in results})


def write_results(files: VersionFiles, data: Path, results: Sequence[Result], to: Path) -> None:
    """Write `evaluation.json`, the picture of the front, and a confusion matrix a precision."""
    to.mkdir(parents=True, exist_ok=True)
    text = as_json(files.model, files.version, data, results)
    (to / RESULTS).write_text(text, encoding="utf-8")
    draw_results(results, to / FRONT)
    for one in results:
        if (confusion := one.findings.confusion) is not None:
            title = f"{files.model} {one.precision}"
            draw_confusion(confusion, to / f"confusion_{one.precision}.png", title)


def draw_results(results: Sequence[Result], path: Path) -> None:
    """Draw the first measure against time and size."""
    points = [
        Point(one.precision, one.findings.measures[0].value, one.milliseconds, one.megabytes)
        for one in results
    ]
    draw_front(points, path, results[0].findings.measures[0].name)


def write_into_card(folder: Path, data: Path, results: Sequence[Result]) -> None:
    """Put table and picture into a folder's README.md, in place of those that were there."""
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8") if card.exists() else f"# {folder.name}\n"
    if TABLE_START not in text:
        text = f"{text.rstrip()}\n\n## Evaluation\n\n{TABLE_START}\n{TABLE_END}\n"
    (folder / "goldens").mkdir(exist_ok=True)
    draw_results(results, folder / "goldens" / FRONT)
    said = (
        f"{table_of(results)}\n\nOn {data.name}, through the code that serves it, on a CPU.\n\n"
        f"![{results[0].findings.measures[0].name} against time and size](goldens/{FRONT})"
    )
    card.write_text(replace_table(text, said), encoding="utf-8")
