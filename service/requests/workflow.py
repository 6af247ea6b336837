"""Run the steps of a workflow. What a step asks of a model is an ordinary item.

The results form a tree: those of the steps that take the input, and for each object that a step
detected those of the steps that take its crop. A step that fails leaves its error in its place,
and the steps that take its result do not run.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from service.cache.responses import together
from service.errors import (
    DeadlineExceededError,
    LimitExceededError,
    ServiceError,
    kept,
    named,
)
from service.repository.workflows import (
    INPUT,
    ClassifyStep,
    CropStep,
    ModelStep,
    Step,
    TranslateStep,
    Workflow,
)
from service.requests.admission import ApiLimits
from service.requests.answer import (
    Answers,
    Ask,
    Models,
    Result,
    as_service_error,
    ask_pipeline,
    found,
    gathered,
)
from service.requests.documents import Documents
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request
from service.requests.segment_stream import DocumentLimits
from service.requests.windowed import Window
from service.requests.zero_shot import GivenLabels, asking
from service.tasks import (
    Classification,
    Content,
    DetectedObject,
    Detections,
    Frame,
    Image,
    Text,
    Translation,
)
from service.telemetry.record import Timings, longest
from service.telemetry.request_metrics import WORKFLOW_INPUTS
from service.transforms.vision.crops import crops, rgb_pixels

_INPUTS_AT_ONCE = 8
"""Inputs of one request whose steps run at the same time."""


@dataclass(slots=True)
class StepResults:
    """What the steps made of one input, or of the crop of one object."""

    by_step: dict[str, Result] = field(default_factory=dict)
    objects: dict[str, Sequence["StepResults"]] = field(default_factory=dict)
    """By step that detects: of each object what the steps made of its crop."""

    def everything(self) -> Iterator[Result]:
        """Yield the results of all steps, of all crops too."""
        yield from self.by_step.values()
        for objects in self.objects.values():
            for each in objects:
                yield from each.everything()

    @property
    def failed(self) -> int:
        """Return how many steps failed."""
        return sum(isinstance(result, ServiceError) for result in self.everything())


def models_of(models: Models, workflow: Workflow) -> Mapping[str, Pipeline[Any, Any]]:
    """Return the model of each step that asks one.

    Raises:
        ServiceError: a model is not there, not ready, or cannot do it; or labels are not valid. The
            message begins with the name of the step.
    """
    known: dict[str, Pipeline[Any, Any]] = {}
    for name, step in workflow.steps.items():
        if isinstance(step, ModelStep):
            try:
                _labels(step)
                known[name] = models.find(step.ability, workflow.modality(step), step.model, None)
            except ServiceError as error:
                raise named(name, error) from None
    return known


@dataclass(frozen=True, slots=True, eq=False)
class WorkflowRun:
    """A workflow with the models that it asks."""

    workflow: Workflow
    request: Request
    images: asyncio.Semaphore
    """Bounds the images of all requests whose pixels are kept for their crops."""
    windows: Mapping[str, Window]
    """By step that asks a model."""

    @classmethod
    async def open(
        cls,
        models: Models,
        request: Request,
        workflow: Workflow,
        images: asyncio.Semaphore,
        limits: ApiLimits,
        stack: ExitStack,
    ) -> "WorkflowRun":
        """Find the models, and hold them until the stack is closed.

        Raises:
            ServiceError: a model cannot be asked, or a label of a step could not be computed.
        """
        windows: dict[str, Window] = {}
        known = await found(partial(models_of, models, workflow), request)
        for name, pipeline in known.items():
            step = workflow.steps[name]
            assert isinstance(step, ModelStep)  # noqa: S101 - for mypy
            if request.caller is not None:  # before anything is computed
                await request.caller.spend(step.ability, (pipeline.model.name,), [])
            stack.enter_context(pipeline.held())
            try:
                ask = await _asking(pipeline, request, step, workflow.modality(step), limits)
            except ServiceError as error:
                raise named(name, error) from None
            windows[name] = Window(pipeline, request, ask)
        return cls(workflow, request, images, windows)

    @property
    def first(self) -> Pipeline[Any, Any]:
        """Return the model of the first step that takes the input."""
        return next(self.windows[name].pipeline for name in self.workflow.takers(INPUT))

    async def ask(
        self, pipeline: Pipeline[Any, Any], content: Content, request: Request
    ) -> Outcome[StepResults]:
        """Run all steps on one input; `pipeline` is not used.

        Raises:
            ServiceError: every step that takes the input failed; it is the error of the first one.
        """
        results = StepResults()
        try:
            await self._follow(INPUT, content, request, results)
            _refuse_nothing(results)
        except ServiceError as error:
            WORKFLOW_INPUTS.labels(self.workflow.name, error.code).inc()
            raise
        WORKFLOW_INPUTS.labels(self.workflow.name, "partial" if results.failed else "ok").inc()
        done = [each for each in results.everything() if isinstance(each, Outcome)]
        cache, timings = together(each.cache for each in done), [each.timings for each in done]
        return Outcome(results, cache, longest(timings) if timings else Timings())

    async def _follow(
        self, name: str, content: Content, request: Request, into: StepResults
    ) -> None:
        """Run the steps that take what a step gave."""
        takers = self.workflow.takers(name)
        await asyncio.gather(*(self._run(t, takers[t], content, request, into) for t in takers))
        order = [step for step in self.workflow.steps if step in into.by_step]
        into.by_step = {step: into.by_step[step] for step in order}

    async def _run(
        self, name: str, step: Step, content: Content, request: Request, into: StepResults
    ) -> None:
        result = into.by_step[name] = await self._ask(name, step, content, request)
        if isinstance(result, ServiceError):
            return
        match result.answer:
            case Detections(objects=objects):
                into.objects[name] = [StepResults() for _ in objects]
                for taker, crop in self.workflow.takers(name).items():
                    assert isinstance(crop, CropStep)  # noqa: S101 - checked by `takes`
                    await self._crop(taker, crop, content, objects, request, into.objects[name])
            case Translation(text=text):
                await self._follow(name, Text(text), request, into)
            case Classification(labels=(best, *_)):
                await self._follow(name, Text(best.name), request, into)

    async def _ask(self, name: str, step: Step, content: Content, request: Request) -> Result:
        assert isinstance(step, ModelStep)  # noqa: S101 - crops are not content
        window, item = self.windows[name], step.item(content)
        try:
            if request.caller is not None:
                await request.caller.spend(step.ability, (window.pipeline.model.name,), [item])
            return await window.ask(item, request)
        except Exception as error:  # a bug with one step must not lose the others
            return kept(as_service_error(error, request.id))

    async def _crop(
        self,
        name: str,
        step: CropStep,
        content: Content,
        objects: Sequence[DetectedObject],
        request: Request,
        into: Sequence[StepResults],
    ) -> None:
        """Cut objects out, and run the steps that take their pictures."""
        wanted = [
            place
            for place, found in enumerate(objects)
            if step.only is None or found.label in step.only
        ]
        for place in wanted[step.most :]:
            into[place].by_step[name] = LimitExceededError(
                f"it is object {place + 1}; the workflow crops {step.most} of an image"
            )
        chosen = wanted[: step.most]
        if not chosen:
            return
        boxes = [objects[place].box for place in chosen]
        try:
            detector = self.windows[str(step.input)].pipeline
            async with self._pixels(content, detector, request) as pixels:
                following = []
                for place, picture in zip(chosen, crops(pixels, boxes, step.margin), strict=True):
                    if isinstance(picture, ServiceError):
                        into[place].by_step[name] = picture
                    else:
                        following.append(self._follow(name, Frame(picture), request, into[place]))
                await asyncio.gather(*following)
        except Exception as error:  # of the image: the boxes are kept
            failure = kept(as_service_error(error, request.id))
            for place in chosen:
                into[place].by_step[name] = failure

    @asynccontextmanager
    async def _pixels(
        self, content: Content, detector: Pipeline[Any, Any], request: Request
    ) -> AsyncIterator[Any]:
        """Return the pixels of an image, which is decoded on a thread. Raises ServiceError."""
        match content:
            case Frame(pixels):
                yield pixels
            case Image(data, most):
                try:
                    async with asyncio.timeout_at(request.deadline):
                        await self.images.acquire()
                except TimeoutError:
                    raise DeadlineExceededError(
                        "the deadline passed while other images were cropped"
                    ) from None
                try:
                    decode = partial(rgb_pixels, data, most)
                    yield await detector.run_on_thread(decode, request)
                finally:
                    self.images.release()


async def run_workflow(run: WorkflowRun, inputs: Sequence[Content | ServiceError]) -> Answers:
    """Run a workflow on every input of a request. Cancel it when the client has disconnected.

    Returns:
        `StepResults` as the answer of each input.
    """
    request = run.request
    request.record.item_count = len(inputs)
    request.record.model = run.first.model
    gate = asyncio.Semaphore(_INPUTS_AT_ONCE)

    async def one(content: Content | ServiceError) -> Result:
        if isinstance(content, ServiceError):
            return content
        try:
            async with gate:
                return await run.ask(run.first, content, request)
        except Exception as error:
            return kept(as_service_error(error, request.id))

    results = await asyncio.gather(*(one(content) for content in inputs))
    return gathered(request, run.first.model, results)


def _labels(step: ModelStep) -> GivenLabels | None:
    """Return what a step chooses among. Raises InvalidInputError, LimitExceededError."""
    if not isinstance(step, ClassifyStep) or step.labels is None:
        return None
    return GivenLabels(step.labels, step.hypothesis_template, step.multi_label)


def _refuse_nothing(results: StepResults) -> None:
    """Raise the error of a step if there is nothing else."""
    if all(isinstance(result, ServiceError) for result in results.by_step.values()):
        for name, error in results.by_step.items():
            if isinstance(error, ServiceError):
                raise named(name, error)


async def _asking(
    pipeline: Pipeline[Any, Any],
    request: Request,
    step: ModelStep,
    modality: str,
    limits: ApiLimits,
) -> Ask:
    """Return what asks the model of a step. Raises ServiceError."""
    if isinstance(step, TranslateStep):
        most = DocumentLimits(limits.max_segments, limits.request_timeout_seconds)
        return Documents(most).answer
    labels = _labels(step)
    return ask_pipeline if labels is None else await asking(pipeline, request, labels, modality)
