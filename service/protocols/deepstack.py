"""Detection as DeepStack and CodeProject.AI offer it to cameras: POST /v1/vision/detection."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import BaseModel, Field

from service.api.content import as_image
from service.api.errors import Problem
from service.api.http_request import HttpRequest
from service.api.openapi import sample
from service.api.replies import Reply
from service.errors import InvalidInputError
from service.protocols.bodies import Body, Reading
from service.protocols.protocol import (
    Operation,
    Protocol,
    ProtocolBody,
    ProtocolRoute,
    answer_items,
    error_reply,
    parsed,
    post,
    rendered,
)
from service.requests.request import Selection
from service.tasks import Detections, DetectItem, Task
from service.transforms.vision.boxes import whole_pixels

_LEAST_CONFIDENCE = 0.4
"""Where the client does not say, as CodeProject.AI has it."""


class DeepStackError(BaseModel):
    """An error in DeepStack's shape."""

    success: bool = Field(description="Always false.")
    error: str
    code: int = Field(description="The status of the response.")


def render_error(problem: Problem) -> Reply:
    """Return `{"success": false, "error": ...}`; what is wrong with an image has status 400."""
    status = problem.status.value
    if status in (415, 422):
        status = 400
    body = {"success": False, "error": problem.detail, "code": status}
    return error_reply(problem, body, status=status)


def _key_of(values: Mapping[str, Any]) -> str | None:
    key = values.get("api_key")
    return key if isinstance(key, str) and key else None


DEEPSTACK = Protocol("deepstack", DeepStackError, render_error, Reading(with_query=True), _key_of)


class DeepStackBody(ProtocolBody):
    """An image, and the least confidence of the objects to return."""

    image: Any = Field(
        None,
        description="A file of a form, or base64; without it the body itself is the image.",
        json_schema_extra={"type": "string"},
    )
    min_confidence: float | None = Field(None, ge=0, le=1, description="The default is 0.4.")
    api_key: str | None = None


class DeepStackPrediction(BaseModel):
    """One object: its box is in whole pixels of the image."""

    label: str
    confidence: float
    x_min: int
    y_min: int
    x_max: int
    y_max: int


class DeepStackPredictions(BaseModel):
    """The objects of an image, the most confident first."""

    success: bool
    code: int
    predictions: list[DeepStackPrediction]
    count: int
    message: str
    command: str
    moduleId: str  # noqa: N815 - the name of the protocol
    inferenceMs: int = Field(description="Milliseconds on the model.")  # noqa: N815
    processMs: int = Field(description="Milliseconds since the request arrived.")  # noqa: N815
    duration: float = Field(description="Seconds since the request arrived.")


class DeepStackListBody(ProtocolBody):
    """No key of it is read, except the client's key."""

    api_key: str | None = None


class DeepStackModels(BaseModel):
    """The names of the detectors that serve."""

    success: bool
    code: int
    models: list[str]


async def detection(request: HttpRequest, body: Body) -> Reply:
    """Find objects in an image, as clients of DeepStack and CodeProject.AI ask for it."""
    values = {key: value for key, value in body.values.items() if value != ""}
    wanted = parsed(Body(values), DeepStackBody)
    image = body.image if body.image is not None else wanted.image
    if image is None:
        raise InvalidInputError("there is no image: send it as the file 'image' of a form")
    least = _LEAST_CONFIDENCE if wanted.min_confidence is None else wanted.min_confidence
    answers = await answer_items(
        request,
        Task.DETECT,
        Selection(request.path_params.get("model")),
        [DetectItem(as_image(image, request.context.limits), least, masks="none")],
        noun="image",
    )
    (outcome,) = answers.outcomes
    seconds = time.perf_counter() - request.record.started
    predictions = _predictions(outcome.answer)
    names = ", ".join(one["label"] for one in predictions)
    return rendered(
        {
            "success": True,
            "code": 200,
            "predictions": predictions,
            "count": len(predictions),
            "message": f"Found {names}" if names else "No objects found",
            "command": "detect",
            "moduleId": answers.model.name if answers.model is not None else "",
            "inferenceMs": round(1000 * outcome.timings.compute),
            "processMs": round(1000 * seconds),
            "duration": seconds,
        },
        answers,
    )


async def custom_list(request: HttpRequest, body: Body) -> Reply:
    """List the detectors that serve."""
    names = {
        status.model
        for status in request.context.registry.statuses()
        if status.task is Task.DETECT and status.can_answer
    }
    return Reply(orjson.dumps({"success": True, "code": 200, "models": sorted(names)}))


def _predictions(found: Detections) -> Sequence[dict[str, Any]]:
    """Return the objects, best first; their boxes do not leave the image."""
    edges = ("x_min", "y_min", "x_max", "y_max")
    return [
        {
            "label": one.label,
            "confidence": one.score,
            **dict(zip(edges, whole_pixels(one.box, found.width, found.height), strict=True)),
        }
        for one in found.objects
    ]


def deepstack_routes() -> Sequence[ProtocolRoute]:
    """Return the routes."""
    example = {"image": sample("cards.jpg"), "min_confidence": 0.4}
    bodies = DEEPSTACK, detection, DeepStackBody, DeepStackPredictions, example
    listing = Operation(DEEPSTACK, custom_list, DeepStackListBody, DeepStackModels, {})
    return [
        post("/v1/vision/detection", Operation(*bodies)),
        post("/v1/vision/custom/list", listing),
        post("/v1/vision/custom/{model:path}", Operation(*bodies, path_example={"model": "cards"})),
    ]
