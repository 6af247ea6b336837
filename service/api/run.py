"""POST /v1/run/{workflow}: texts or images through the steps of a workflow."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, Field

from service.api.classify import encode_classification
from service.api.content import Images, Texts, as_image, as_text, check_count, each, read_request
from service.api.detect import encode_detections
from service.api.embed import encode_embedding
from service.api.http_request import HttpRequest
from service.api.openapi import StepModel
from service.api.replies import Reply, results_reply
from service.api.schemas import given
from service.api.translate import encode_translation
from service.errors import InvalidInputError, ServiceError
from service.registry.workflows import Workflows, WorkflowStatus
from service.repository.workflows import Workflow
from service.requests.admission import ApiLimits
from service.requests.answer import Result
from service.requests.languages import DetectedTranslation
from service.requests.pipeline import Outcome
from service.requests.workflow import StepResults, WorkflowRun, run_workflow, tracked_step
from service.requests.workflow_models import allowed_models, windows_of
from service.tasks import Classification, Content, Detections, Embedding, Translation
from service.transforms.vision.tracking import Tracked


class RunRequest(BaseModel):
    """Images or texts, whichever the workflow takes."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"oneOf": [given("text", "image"), given("image", "text")]},
    )

    text: Texts | None = None
    image: Images | None = None

    def inputs(self, workflow: Workflow, limits: ApiLimits) -> Sequence[Content | ServiceError]:
        """Return the inputs. Raises InvalidInputError, LimitExceededError."""
        if (self.text is None) == (self.image is None):
            raise InvalidInputError("give either text or image")
        if (self.text is None) == (workflow.input == "text"):
            raise InvalidInputError(f"workflow {workflow.name!r} takes {workflow.input}")
        values = self.text or self.image or []
        check_count(len(values), limits)
        if self.text is None:
            return each(values, lambda value: as_image(value, limits))
        return each(values, lambda value: as_text(value, limits))


class RunResult(BaseModel):
    """What the steps made of one input."""

    steps: dict[str, dict[str, Any]] = Field(
        description="By step, the result as the route of its task gives it, or `error` with `code` "
        "and `detail`. An object of a step that detects has `steps` of its own: those that took "
        "its crop. A step is absent if the step before it failed."
    )
    failed: int = Field(description="Steps that failed, those of crops included.")


class RunResponse(BaseModel):
    """One result for each input, in order."""

    workflow: str
    models: dict[str, StepModel] = Field(description="By step.")
    results: list[RunResult]


class WorkflowsResponse(BaseModel):
    """Every workflow of the repository, by name."""

    workflows: list[WorkflowStatus]


_ENCODE: Mapping[type, Callable[[Any], Mapping[str, Any]]] = {
    Classification: encode_classification,
    Detections: encode_detections,
    Embedding: encode_embedding,
    Translation: encode_translation,
    DetectedTranslation: encode_translation,
}


async def run(request: HttpRequest) -> Reply:
    """Run the steps of a workflow of the repository, such as: find objects, label each of them.

    A step that fails does not fail the others; its error stands in its place. An input fails if
    nothing came back for it.
    """
    context = request.context
    workflow = context.registry.workflows.find(request.path_params["workflow"])
    body = await read_request(request, RunRequest)
    inputs = body.inputs(workflow, context.limits)
    with ExitStack() as stack:
        opening = open_run(request, workflow, stack)
        running = await request.while_connected(opening)
        answers = await request.while_connected(run_workflow(running, inputs))
        members: dict[str, Any] = {}
        if answers.outcomes:
            members = {
                "workflow": workflow.name,
                "models": {
                    name: {
                        "model": window.pipeline.model.name,
                        "version": window.pipeline.model.version,
                    }
                    for name, window in running.windows.items()
                },
                "results": [
                    encode_results(result.answer) if isinstance(result, Outcome) else None
                    for result in answers.results
                ],
            }
    return results_reply(request, answers, members)


async def open_run(
    request: HttpRequest, workflow: Workflow, stack: ExitStack, tracked: str | None = None
) -> WorkflowRun:
    """Find the models of a workflow, and hold them until the stack is closed. Raises ServiceError.

    Args:
        request: whose key must be allowed to use all of them.
        workflow: to run.
        stack: holds the models.
        tracked: the step whose objects are tracked.
    """
    context, asked = request.context, request.without_transport()
    known = await allowed_models(context.registry, asked, workflow)
    windows = await windows_of(known, asked, workflow, context.limits, stack)
    return WorkflowRun(workflow, asked, context.cropped_images, windows, tracked)


def workflow_of_frames(
    workflows: Workflows, name: str, is_tracked: bool
) -> tuple[Workflow, str | None]:
    """Return a workflow that runs on frames, and its step whose objects are tracked.

    Raises:
        ServiceError: there is no such workflow, it is not ready, takes texts, or detects nothing.
    """
    workflow = workflows.find(name)
    if workflow.input != "image":
        raise InvalidInputError(f"workflow {name!r} takes {workflow.input}")
    return workflow, tracked_step(workflow) if is_tracked else None


def encode_results(results: StepResults, tracked: Tracked | None = None) -> Mapping[str, Any]:
    """Return the results of one input as a JSON object; tracked objects have their ids."""
    return {"steps": _steps(results, tracked), "failed": results.failed}


def _steps(results: StepResults, tracked: Tracked | None = None) -> Mapping[str, Any]:
    return {
        name: _step(
            result, results.objects.get(name), tracked if name in results.candidates else None
        )
        for name, result in results.by_step.items()
    }


def _step(
    result: Result, crops: Sequence[StepResults] | None, tracked: Tracked | None
) -> Mapping[str, Any]:
    if isinstance(result, ServiceError):
        return {"error": {"code": result.code, "detail": str(result)}}
    answer = result.answer
    if crops is None:
        return _ENCODE[type(answer)](answer)
    steps_of = {id(found): _steps(crop) for found, crop in zip(answer.objects, crops, strict=True)}
    if tracked is not None:
        answer = replace(answer, objects=tuple(tracked.objects))
    members = dict(_ENCODE[type(answer)](answer))
    members["objects"] = [
        {**found, "steps": steps_of.get(id(one), {})}
        for one, found in zip(answer.objects, members["objects"], strict=True)
    ]
    if tracked is not None:
        members["objects"] = with_ids(tracked, members["objects"])
    return members


def with_ids(tracked: Tracked, objects: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return tracked objects with their ids."""
    return [{"id": n, **found} for n, found in zip(tracked.ids, objects, strict=True)]


async def list_workflows(request: HttpRequest) -> Reply:
    """List the workflows of the repository, with their steps, and why one cannot run."""
    statuses = request.context.registry.workflows.statuses()
    return Reply(orjson.dumps({"workflows": statuses}))
