"""The quality of a workflow's steps on a data file, asked through the service's own engine.

A line has `text` or `image`, as the workflow takes, and `steps`: what is right, by step. For a step
that classifies the label, or a list of labels of which each is right; for one that translates the
reference or a list of them; for one that detects, or that classifies crops, the list of the labels
of all objects of the image, in any order.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from models.evaluate.errors import EvaluationError
from models.evaluate.measures import Measure
from models.evaluate.rows import Row, Table, read_rows
from models.evaluate.translation import aligned_references, translation_measures
from service.app import build_engine
from service.cache.responses import CacheMode
from service.errors import ServiceError
from service.repository.workflows import CropStep, ModelStep, Workflow, read_workflows
from service.requests.admission import ApiLimits
from service.requests.pipeline import Outcome
from service.requests.request import Request
from service.requests.workflow import StepResults, WorkflowRun
from service.requests.workflow_models import allowed_models, windows_of
from service.settings import read_settings
from service.tasks import Classification, Detections, Translation

_MEASURED = {"classify", "translate", "detect"}


@dataclass(frozen=True, slots=True)
class _Answered:
    row: Row
    results: StepResults | None
    """None if every step failed."""
    seconds: float


async def evaluate_workflow(repository: Path, name: str, items: Path) -> Sequence[Measure]:
    """Run a workflow on every line, one after the other, and return the measures.

    Raises:
        EvaluationError: the workflow or the data cannot be read, or do not fit each other.
        ServiceError: a model of a step cannot be loaded.
    """
    workflow = read_workflows(repository).get(name)
    if not isinstance(workflow, Workflow):
        raise EvaluationError(workflow or f"there is no workflow {name!r} in {repository}")
    rows = read_rows(items)
    _check(workflow, rows)
    models = [s.model for s in workflow.steps.values() if isinstance(s, ModelStep) and s.model]
    options = {"models.repository": str(repository), "models.device": "cpu"}
    if all(s.model for s in workflow.steps.values() if isinstance(s, ModelStep)):
        options["models.only"] = ",".join(dict.fromkeys(models))
    engine = build_engine(read_settings({}, options))
    async with engine.running() as registry:
        registry.start()
        while reasons := registry.not_ready():
            if failed := next((why for why in reasons.values() if "failed" in why), None):
                raise EvaluationError(failed)
            await asyncio.sleep(0.05)
        with ExitStack() as stack:
            request = Request(cache=CacheMode.BYPASS)
            known = await allowed_models(registry, request, workflow)
            windows = await windows_of(known, request, workflow, ApiLimits(), stack)
            run = WorkflowRun(workflow, request, asyncio.Semaphore(1), windows)
            answered = [await _asked(run, row) for row in tqdm(rows, desc=name)]
    return [*_quality(workflow, answered), *_totals(answered)]


async def _asked(run: WorkflowRun, row: Row) -> _Answered:
    started, results = time.perf_counter(), None
    try:
        results = (await run.ask(run.first, row.content(), run.request)).answer
    except ServiceError as error:
        tqdm.write(f"{row.where}: {error}")
    return _Answered(row, results, time.perf_counter() - started)


def _check(workflow: Workflow, rows: Table) -> None:
    """Raise EvaluationError if a line is not of the workflow."""
    for row in rows:
        if workflow.input not in row.values:
            raise EvaluationError(f"{row.where} has no {workflow.input!r}")
        expected = row.values.get("steps")
        if not isinstance(expected, Mapping) or not expected:
            raise EvaluationError(f"{row.where} has no 'steps'")
        for step in expected:
            task = workflow.steps[step].task if step in workflow.steps else None
            if task not in _MEASURED:
                raise EvaluationError(
                    f"{row.where}: {step!r} is no step of the workflow that classifies, "
                    "translates or detects"
                )


def _quality(workflow: Workflow, answered: Sequence[_Answered]) -> Iterator[Measure]:
    for name, step in workflow.steps.items():
        own = [one for one in answered if name in one.row.values["steps"]]
        if not own:
            continue
        truth = [_texts(one.row, name) for one in own]
        given = [[] if one.results is None else _given(one.results, name) for one in own]
        if step.task == "translate":
            texts = ["".join(each[:1]) for each in given]
            references = aligned_references([list(each) for each in truth])
            for measure in translation_measures(texts, references, _target(own, name)):
                yield Measure(f"{name}: {measure.name}", measure.value, measure.decimals)
        elif step.task == "classify" and not _is_of_crops(workflow, name):
            right = [
                bool(found) and found[0] in these for found, these in zip(given, truth, strict=True)
            ]
            yield Measure(f"{name}: accuracy", float(np.mean(right)))
        else:
            yield from _counted(name, truth, given)


def _target(answered: Sequence[_Answered], name: str) -> str:
    """Return the language that a step translates into."""
    for one in answered:
        result = None if one.results is None else one.results.by_step.get(name)
        if isinstance(result, Outcome) and isinstance(result.answer, Translation):
            return result.answer.target
    return "en"  # nothing was translated


def _counted(
    name: str, truth: Sequence[Sequence[str]], given: Sequence[Sequence[str]]
) -> Iterator[Measure]:
    """Compare how often each label occurs in each image."""
    pairs = [(Counter(right), Counter(found)) for right, found in zip(truth, given, strict=True)]
    common = sum((right & found).total() for right, found in pairs)
    found, right = sum(map(len, given)), sum(map(len, truth))
    yield Measure(f"{name}: F1 of labels", 2 * common / max(found + right, 1))
    yield Measure(f"{name}: precision of labels", common / max(found, 1))
    yield Measure(f"{name}: recall of labels", common / max(right, 1))


def _totals(answered: Sequence[_Answered]) -> Iterator[Measure]:
    failed = sum(1 if one.results is None else one.results.failed for one in answered)
    seconds = [one.seconds for one in answered]
    yield Measure("steps that failed", failed, 0)
    yield Measure("ms an input, asked alone", 1e3 * float(np.median(seconds)), 2)


def _texts(row: Row, step: str) -> Sequence[str]:
    expected: Any = row.values["steps"][step]
    texts = [expected] if isinstance(expected, str) else expected
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise EvaluationError(f"{row.where}: {step!r} must be a text or a list of texts")
    return texts


def _is_of_crops(workflow: Workflow, name: str) -> bool:
    """Return whether a step is asked for each object."""
    while (before := str(workflow.steps[name].input)) in workflow.steps:
        if isinstance(workflow.steps[before], CropStep):
            return True
        name = before
    return False


def _given(results: StepResults, name: str) -> list[str]:
    """Return the texts that a step gave for an input, of all its crops."""
    texts: list[str] = []
    if isinstance(result := results.by_step.get(name), Outcome):
        match result.answer:
            case Classification(labels=(best, *_)):
                texts.append(best.name)
            case Translation(text=text):
                texts.append(text)
            case Detections(objects=objects):
                texts += [each.label for each in objects]
    for crops in results.objects.values():
        for crop in crops:
            texts += _given(crop, name)
    return texts
