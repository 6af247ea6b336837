"""`workflows/<name>.toml`: steps that pass results to one another, read and checked.

What a step asks of its model is checked where models are known: `service/requests/workflow.py`.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import Field

from service.errors import ModelLoadError
from service.repository.manifest import read_manifest_table
from service.repository.paths import MODEL_NAME
from service.repository.tables import did_you_mean, read_table
from service.tasks import (
    AnyItem,
    ClassifyItem,
    ComposedTask,
    Content,
    DetectItem,
    EmbedItem,
    Task,
    Text,
    TranslateItem,
)

FOLDER = "workflows"
"""In the model repository."""
INPUT = "input"
"""What the steps that take the input of the workflow call it."""

MOST_STEPS = 32
MOST_CROPS = 100
MOST_ITEMS = 1_000
"""Items of all steps for one input."""
_MOST_FILES = 100

Kind: TypeAlias = Literal["image", "text", "objects", "vector"]
"""What a step takes or gives."""

_Ratio: TypeAlias = Annotated[float, Field(ge=0, le=1)]
_Count: TypeAlias = Annotated[int, Field(ge=1, le=100_000)]
_Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=1_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The keys that every step has."""

    takes: ClassVar[Sequence[Kind]] = ()
    gives: ClassVar[Kind]

    task: str
    input: str | None = None
    """`input`, or the step whose result it takes. The default is the step before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStep(Step):
    """A step that asks a model."""

    model: str | None = None
    """The default is the task's default model."""

    @property
    def ability(self) -> Task | ComposedTask:
        """Return what the model must be able to do."""
        return Task(self.task)

    def item(self, content: Content) -> AnyItem:
        """Return what to ask the model."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectStep(ModelStep):
    """Finds objects in an image."""

    takes: ClassVar[Sequence[Kind]] = ("image",)
    gives: ClassVar[Kind] = "objects"

    threshold: _Ratio | None = None
    iou: _Ratio | None = None
    max_detections: _Count | None = None

    def item(self, content: Content) -> AnyItem:
        """Return what to ask the model."""
        assert not isinstance(content, Text)  # noqa: S101 - checked by `takes`
        return DetectItem(content, self.threshold, self.iou, self.max_detections)


@dataclass(frozen=True, slots=True, kw_only=True)
class CropStep(Step):
    """Cuts each object out of its image."""

    takes: ClassVar[Sequence[Kind]] = ("objects",)
    gives: ClassVar[Kind] = "image"

    most: Annotated[int, Field(ge=1, le=MOST_CROPS)] = 16
    """Objects of an image that are cropped, best first."""
    only: Annotated[tuple[_Name, ...], Field(min_length=1)] | None = None
    """Labels of the objects to crop. The default is all."""
    margin: Annotated[float, Field(ge=0, le=1)] = 0.0
    """What to add at each side of a box, as a part of its width or height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassifyStep(ModelStep):
    """Labels an image or a text. What takes its result as a text gets the best label."""

    takes: ClassVar[Sequence[Kind]] = ("image", "text")
    gives: ClassVar[Kind] = "text"

    top_k: _Count | None = None
    labels: tuple[_Name, ...] | None = None
    """Choose among these (zero-shot)."""
    hypothesis_template: _Name | None = None
    multi_label: bool | None = None

    @property
    def ability(self) -> Task | ComposedTask:
        """Return what the model must be able to do."""
        return Task.CLASSIFY if self.labels is None else ComposedTask.ZERO_SHOT

    def item(self, content: Content) -> AnyItem:
        """Return what to ask the model."""
        return ClassifyItem(content, self.top_k)


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbedStep(ModelStep):
    """Turns an image or a text into a vector."""

    takes: ClassVar[Sequence[Kind]] = ("image", "text")
    gives: ClassVar[Kind] = "vector"

    prompt_name: _Name | None = None
    dimensions: _Count | None = None
    normalize: bool | None = None

    def item(self, content: Content) -> AnyItem:
        """Return what to ask the model."""
        return EmbedItem(content, self.prompt_name, self.dimensions, self.normalize)


@dataclass(frozen=True, slots=True, kw_only=True)
class TranslateStep(ModelStep):
    """Translates a text, line by line."""

    takes: ClassVar[Sequence[Kind]] = ("text",)
    gives: ClassVar[Kind] = "text"

    source: _Name | None = None
    target: _Name | None = None
    num_beams: Annotated[int, Field(ge=1, le=8)] | None = None
    length_penalty: Annotated[float, Field(ge=-5, le=5)] | None = None
    max_length: Annotated[int, Field(ge=1, le=1024)] | None = None

    def item(self, content: Content) -> AnyItem:
        """Return what to ask the model."""
        assert isinstance(content, Text)  # noqa: S101 - checked by `takes`
        chosen = (self.source, self.target, self.num_beams, self.length_penalty, self.max_length)
        return TranslateItem(content.text, *chosen)


_STEPS: Mapping[str, type[Step]] = {
    "detect": DetectStep,
    "crop": CropStep,
    "classify": ClassifyStep,
    "embed": EmbedStep,
    "translate": TranslateStep,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """A whole file."""

    steps: Mapping[str, Mapping[str, Any]]
    input: Literal["image", "text"] = "image"
    """What the workflow is given."""
    description: str = ""


@dataclass(frozen=True, slots=True)
class Workflow:
    """Steps that fit one another."""

    name: str
    input: Literal["image", "text"]
    description: str
    steps: Mapping[str, Step]
    """In the order of the file; every `input` is set."""

    def modality(self, step: Step) -> str:
        """Return what a step that asks a model takes here: "image" or "text"."""
        return _given(self, step)

    def takers(self, name: str) -> Mapping[str, Step]:
        """Return the steps that take the result of a step, or the input."""
        return {other: step for other, step in self.steps.items() if step.input == name}


def read_workflows(root: Path) -> Mapping[str, Workflow | str]:
    """Return each workflow of a repository by name, or why it is none."""
    folder = root / FOLDER
    found: dict[str, Workflow | str] = {}
    try:
        paths = sorted(path for path in folder.glob("*.toml") if not path.name.startswith("."))
    except OSError:
        return found
    fence = Path(os.path.realpath(root))
    for path in paths[:_MOST_FILES]:
        try:
            found[path.stem] = _read(path, fence)
        except ModelLoadError as error:
            found[path.stem] = str(error)
    return found


def _read(path: Path, fence: Path) -> Workflow:
    """Read and check one file. Raises ModelLoadError, which names everything that is wrong."""
    where = f"{FOLDER}/{path.name}"
    if not MODEL_NAME.fullmatch(path.stem):
        raise ModelLoadError(f"{where}: this cannot be a workflow's name")
    if not Path(os.path.realpath(path)).is_relative_to(fence):
        raise ModelLoadError(f"{where}: it is a link out of the repository")
    file = read_table(read_manifest_table(path), _File, where)
    steps, problems, before = dict[str, Step](), list[str](), INPUT
    for name, table in file.steps.items():
        try:
            steps[name] = _step(name, {"input": before, **table}, where)
        except ModelLoadError as error:
            problems.append(str(error).removeprefix(f"{where}: "))
        before = name
    workflow = Workflow(path.stem, file.input, file.description, steps)
    if not problems:
        problems += _problems(workflow)
    if problems:
        raise ModelLoadError(f"{where}: {'; '.join(problems)}")
    return workflow


def _step(name: str, table: Mapping[str, Any], where: str) -> Step:
    task = table.get("task")
    if not (isinstance(task, str) and task in _STEPS):
        near = did_you_mean(task, _STEPS) if isinstance(task, str) else ""
        raise ModelLoadError(f"steps.{name}.task must be one of {', '.join(_STEPS)}{near}")
    return read_table(table, _STEPS[task], f"{where}: steps.{name}")


def _problems(workflow: Workflow) -> Iterator[str]:
    """Yield what is wrong with how steps are joined."""
    steps = workflow.steps
    if not steps:
        yield "there are no steps"
    if len(steps) > MOST_STEPS:
        yield f"{len(steps)} steps are over the limit of {MOST_STEPS}"
    unknown = False
    for name, step in steps.items():
        if not MODEL_NAME.fullmatch(name) or name == INPUT:
            yield f"steps.{name}: this cannot be a step's name"
        if step.input != INPUT and step.input not in steps:
            unknown = True
            near = did_you_mean(str(step.input), [*steps, INPUT])
            yield f"steps.{name}.input: there is no step {step.input!r}{near}"
    if unknown:
        return
    try:
        order = list(TopologicalSorter({n: [s.input] for n, s in steps.items()}).static_order())
    except CycleError as error:
        yield f"the steps go round in a circle: {' -> '.join(map(str, reversed(error.args[1])))}"
        return
    yield from _mismatches(workflow)
    yield from _too_many(workflow, [str(name) for name in order if name != INPUT])


def _mismatches(workflow: Workflow) -> Iterator[str]:
    for name, step in workflow.steps.items():
        if (given := _given(workflow, step)) not in step.takes:
            kinds = " or ".join(step.takes)
            yield f"steps.{name}: {step.task} takes {kinds}, and {step.input} gives {given}"
        if isinstance(step, CropStep) and not workflow.takers(name):
            yield f"steps.{name}: no step takes its crops"


def _too_many(workflow: Workflow, order: Sequence[str]) -> Iterator[str]:
    """Yield whether the crops of crops are too many; `order` has each step after its input."""
    counts, items = {INPUT: 1}, 0
    for name in order:
        step = workflow.steps[name]
        counts[name] = counts[str(step.input)]
        if isinstance(step, CropStep):
            counts[name] *= step.most
        else:
            items += counts[name]
    if items > MOST_ITEMS:
        yield (
            f"one input may become {items} items, over the limit of {MOST_ITEMS}: lower `most` of "
            "the crops"
        )


def _given(workflow: Workflow, step: Step) -> Kind:
    """Return what a step's input gives."""
    return workflow.input if step.input == INPUT else workflow.steps[str(step.input)].gives
