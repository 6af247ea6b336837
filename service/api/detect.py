"""POST /v1/detect: images to objects in them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import BaseModel, Field

from service.api.content import Images, TaskRequest, as_image, check_count, each, read_request
from service.api.http_request import HttpRequest
from service.api.replies import Reply, task_reply
from service.errors import ServiceError
from service.requests.admission import ApiLimits
from service.tasks import DetectedObject, Detections, DetectItem, Mask, MaskForm, Task

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
    masks: MaskForm | None = Field(
        None,
        description="How to write masks, for a model that finds them: COCO's compressed run-length "
        "encoding (the default), polygons, PNG files, or none, which is faster.",
    )

    def items(self, limits: ApiLimits) -> Sequence[DetectItem | ServiceError]:
        """Return the items. Raises InvalidInputError, LimitExceededError."""
        check_count(len(self.image), limits)
        return each(
            self.image,
            lambda image: DetectItem(
                as_image(image, limits), self.threshold, self.iou, self.max_detections, self.masks
            ),
        )


class ObjectMask(BaseModel):
    """The pixels of an object. It has the members of the form that was asked for."""

    size: tuple[int, int] | None = Field(None, description="Of rle: height and width.")
    counts: str | None = Field(
        None, description="Of rle: COCO's compressed counts; `pycocotools.mask.decode` reads both."
    )
    polygons: list[list[tuple[float, float]]] | None = Field(
        None, description="Outlines in the image's pixels, to fill by the even-odd rule."
    )
    png: str | None = Field(
        None, description="A PNG as large as the image in base64, white where the object is."
    )


class FoundObject(BaseModel):
    """One object; its box is left, top, right, bottom in the image's pixels."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    mask: ObjectMask | None = Field(None, description="Of a model that finds masks.")
    keypoints: list[list[float]] | None = Field(
        None,
        description="Of a model that finds keypoints: x and y of each, and how likely it is "
        "visible if the model says so.",
    )
    rotated_box: tuple[float, float, float, float, float] | None = Field(
        None,
        description="Of a model that finds rotated boxes: centre x and y, width, height, and the "
        "angle of the width in radians, clockwise. `box` is the upright box around it.",
    )


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
    size = answer.height, answer.width
    objects = [_encode_object(found, size) for found in answer.objects]
    return {"width": answer.width, "height": answer.height, "objects": objects}


def _encode_object(found: DetectedObject, size: tuple[int, int]) -> Mapping[str, Any]:
    encoded: dict[str, Any] = {"label": found.label, "score": found.score, "box": found.box}
    if found.mask is not None:
        encoded["mask"] = _encode_mask(found.mask, size)
    if found.keypoints is not None:
        encoded["keypoints"] = found.keypoints
    if found.rotated_box is not None:
        encoded["rotated_box"] = found.rotated_box
    return encoded


def _encode_mask(mask: Mask, size: tuple[int, int]) -> Mapping[str, Any]:
    encoded: dict[str, Any] = {}
    if mask.rle is not None:
        encoded |= {"size": size, "counts": mask.rle}
    if mask.polygons is not None:
        encoded["polygons"] = mask.polygons
    if mask.png is not None:
        encoded["png"] = mask.png
    return encoded
