"""Run the steps of a workflow. What a step asks of a model is an ordinary item.

The results form a tree: those of the steps that take the input, and for each object that a step
detected those of the steps that take its crop. A step that fails leaves its error in its place,
and the steps that take its result do not run.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from service.cache.responses import together
from service.errors import (
    DeadlineExceededError,
    InvalidInputError,
    LimitExceededError,
    ServiceError,
    kept,
    named,
)
from service.repository.workflows import (
    INPUT,
    CropStep,
    DetectStep,
    ModelStep,
    Step,
    Workflow,
)
from service.requests.answer import Answers, Result, as_service_error, gathered
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request
from service.requests.windowed import Window
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
from service.transforms.vision.tracking import LOWEST_SCORE, TRACKED_FROM

_INPUTS_AT_ONCE = 8
"""Inputs of one request whose steps run at the same time."""


@dataclass(slots=True)
class StepResults:
    """What the steps made of one input, or of the crop of one object."""

    by_step: dict[str, Result] = field(default_factory=dict)
    objects: dict[str, Sequence["StepResults"]] = field(default_factory=dict)
    """By step that detects: of each object what the steps made of its crop."""

    candidates: dict[str, Sequence[DetectedObject]] = field(default_factory=dict)
    """By the step that is tracked: its objects, and uncertain ones for the tracker."""

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


@dataclass(frozen=True, slots=True, eq=False)
class WorkflowRun:
    """A workflow with the models that it asks."""

    workflow: Workflow
    request: Request
    images: asyncio.Semaphore
    """Bounds the images of all requests whose pixels are kept for their crops."""
    windows: Mapping[str, Window]
    """By step that asks a model."""

    tracked: str | None = None
    """The step whose objects are tracked, if they are."""

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
            case Detections() as detections:
                if name == self.tracked:
                    into.candidates[name] = detections.objects
                    detections = self._certain(detections)
                    into.by_step[name] = replace(result, answer=detections)
                objects = detections.objects
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
        if name == self.tracked and isinstance(step, DetectStep):
            # A tracker needs the uncertain boxes, too.
            step = replace(step, threshold=min(self._tracked_from, LOWEST_SCORE))
        window, item = self.windows[name], step.item(content)
        try:
            if request.caller is not None:
                await request.caller.spend(step.ability, (window.pipeline.model.name,), [item])
            return await window.ask(item, request)
        except Exception as error:  # a bug with one step must not lose the others
            return kept(as_service_error(error, request.id))

    @property
    def _tracked_from(self) -> float:
        return tracked_from(self.workflow, self.tracked) or 0.0

    def _certain(self, detections: Detections) -> Detections:
        """Return what the steps after the tracked one get."""
        objects = (each for each in detections.objects if each.score >= self._tracked_from)
        return replace(detections, objects=tuple(objects))

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


def tracked_step(workflow: Workflow) -> str:
    """Return the step whose objects can be tracked: the first that detects in the input.

    Raises:
        InvalidInputError: there is none.
    """
    for name, step in workflow.takers(INPUT).items():
        if isinstance(step, DetectStep):
            return name
    raise InvalidInputError(
        f"workflow {workflow.name!r} cannot be tracked: no step detects objects in its input"
    )


def tracked_from(workflow: Workflow, step: str | None) -> float | None:
    """Return the score from which an object of the tracked step begins a track, and is cropped."""
    if step is None:
        return None
    detect = workflow.steps[step]
    assert isinstance(detect, DetectStep)  # noqa: S101 - as `tracked_step` found it
    return TRACKED_FROM if detect.threshold is None else detect.threshold


def candidates_of(answer: Any) -> Sequence[DetectedObject] | None:
    """Return what a tracker is given of an answer; None if the step that detects failed."""
    if isinstance(answer, StepResults):
        return next(iter(answer.candidates.values()), None)
    objects: Sequence[DetectedObject] = answer.objects
    return objects


def _refuse_nothing(results: StepResults) -> None:
    """Raise the error of a step if there is nothing else."""
    if all(isinstance(result, ServiceError) for result in results.by_step.values()):
        for name, error in results.by_step.items():
            if isinstance(error, ServiceError):
                raise named(name, error)
