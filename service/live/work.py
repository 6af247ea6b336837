"""What to do with the frames of a live stream, and what answers them now.

Models are looked up for every frame, so that a stream follows a swap, an unload, and a change of
its workflow, and holds no model between two frames.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

from service.repository.workflows import INPUT, Workflow
from service.requests.admission import ApiLimits
from service.requests.answer import Ask, Models, found
from service.requests.pipeline import Outcome, Pipeline
from service.requests.request import Request, Selection
from service.requests.video import ToItem
from service.requests.workflow import WorkflowRun
from service.requests.workflow_models import allowed_models, windows_of
from service.tasks import ComposedTask, Task
from service.transforms.spans import Spans
from service.transforms.vision.tracking import Tracker


@dataclass(frozen=True, slots=True, eq=False)
class FrameModels:
    """The models that answer the frames of a stream now."""

    pipelines: Sequence[Pipeline[Any, Any]]
    """In the queue of the first one the streams take turns."""
    ask: Ask
    """Also charges the caller."""
    task: str
    """A label of metrics."""
    workflow: Workflow | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep the models from being closed."""
        with ExitStack() as stack:
            for pipeline in self.pipelines:
                stack.enter_context(pipeline.held())
            yield


class FindModels(Protocol):
    """Finds what answers a frame."""

    async def __call__(self, request: Request, before: FrameModels | None) -> FrameModels:
        """Return `before` if it still holds. Raises ServiceError."""
        ...


@dataclass(frozen=True, slots=True)
class LiveWork:
    """What to do with the frames of a stream."""

    task: str | None
    """None with a workflow."""
    workflow: str | None
    top_k: int | None
    """Labels to show."""
    find: FindModels
    fps: float | None
    to_item: ToItem
    new_tracker: Callable[[float | None], Tracker | None]
    new_spans: Callable[[], Spans | None]
    request: Request
    patience: float
    """Seconds in which each frame must be answered."""
    max_pixels: int


@dataclass(frozen=True, slots=True)
class TaskModels:
    """Finds the model of a task."""

    models: Models
    task: Task | ComposedTask
    selection: Selection
    asking: Callable[[Pipeline[Any, Any], Request], Awaitable[Ask]]
    """Returns how to ask a pipeline for a frame. Raises ServiceError."""

    async def __call__(self, request: Request, before: FrameModels | None) -> FrameModels:
        """Return `before` if it still holds. Raises ServiceError."""
        name, version = self.selection.model, self.selection.version
        pipeline = await found(
            partial(self.models.find, self.task, "image", name, version), request
        )
        if before is not None and before.pipelines[0] is pipeline:
            return before
        if request.caller is not None:
            await request.caller.spend(self.task, (pipeline.model.name,), [])
        with pipeline.held():
            ask = await self.asking(pipeline, request)
        return FrameModels([pipeline], partial(self._charged, ask), self.task.value)

    async def _charged(
        self, ask: Ask, pipeline: Pipeline[Any, Any], item: Any, request: Request
    ) -> Outcome[Any]:
        if request.caller is not None:
            await request.caller.spend(self.task, (pipeline.model.name,), [item])
        return await ask(pipeline, item, request)


@dataclass(frozen=True, slots=True)
class WorkflowModels:
    """Finds the models of a workflow."""

    models: Models
    workflow: Callable[[], tuple[Workflow, str | None]]
    """Returns it as it is now, and its step whose objects are tracked. Raises ServiceError."""
    images: asyncio.Semaphore
    limits: ApiLimits

    async def __call__(self, request: Request, before: FrameModels | None) -> FrameModels:
        """Return `before` if it still holds. Raises ServiceError."""
        workflow, tracked = self.workflow()
        known = await allowed_models(self.models, request, workflow)
        first = known[next(name for name in workflow.takers(INPUT))]
        pipelines = [first, *known.values()]
        if before is not None and (before.workflow, before.pipelines) == (workflow, pipelines):
            return before
        with ExitStack() as stack:
            windows = await windows_of(known, request, workflow, self.limits, stack)
        run = WorkflowRun(workflow, request, self.images, windows, tracked)
        return FrameModels(pipelines, run.ask, first.task.value, workflow)
