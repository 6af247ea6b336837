"""POST /v1/detect: images to objects in them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.api.content import Images, TaskRequest, as_image, check_count, each, read_request
from service.api.http_request import HttpRequest
from service.api.replies import Reply, task_reply
from service.errors import ServiceError
from service.requests.admission import ApiLimits
from service.tasks import DetectedObject, Detections, DetectItem, Task

Ratio = Annotated[float, Field(ge=0, le=1)]


class DetectRequest(TaskRequest):
    """Images to find objects in. The model has defaults for what is left out."""

    image: Images
    threshold: Ratio | None = Field(None, description="Lowest score of an object.")
    iou: Ratio | None = Field(
        None, description="Boxes of the same label that overlap more than this are one object."
    )
    max_detections: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="How many objects to return, best first."
    )

    def items(self, limits: ApiLimits) -> Sequence[DetectItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        check_count(len(self.image), limits)
        return each(
            self.image,
            lambda image: DetectItem(
                as_image(image, limits), self.threshold, self.iou, self.max_detections
            ),
        )


class FoundObject(BaseModel):
    """One object; its box is left, top, right, bottom in the image's pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]


class DetectResult(BaseModel):
    """Objects of one image, best first, and its size after its EXIF orientation is applied."""

    width: int
    height: int
    objects: list[FoundObject]


class DetectResponse(BaseModel):
    """One result for each item, in order."""

    model: str
    version: int
    results: list[DetectResult]


async def detect(request: HttpRequest) -> Reply:
    """Find objects in images (such as playing cards)."""
    body = await read_request(request, DetectRequest)
    items = body.items(request.context.limits)
    return await task_reply(request, Task.DETECT, body, items, encode_detections)


def encode_detections(answer: Detections) -> Mapping[str, Any]:
    """Return the objects as a JSON object."""
    objects = [_encode_object(found) for found in answer.objects]
    return {"width": answer.width, "height": answer.height, "objects": objects}


def _encode_object(found: DetectedObject) -> Mapping[str, Any]:
    return {"label": found.label, "score": found.score, "box": found.box}
