"""What to do with the frames of a video or a live stream, as requests say it."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from service.api.classify import Labels
from service.api.content import ModelName, TaskRequest, as_text
from service.api.detect import Ratio
from service.requests.admission import ApiLimits
from service.requests.answer import Ask, ask_pipeline
from service.requests.pipeline import Pipeline
from service.requests.request import Request
from service.requests.video import ToItem
from service.requests.zero_shot import GivenLabels, asking
from service.tasks import ClassifyItem, ComposedTask, DetectItem, EmbedItem, MaskForm, Task
from service.transforms.spans import Spans
from service.transforms.vision.tracking import LOWEST_SCORE, TRACKED_FROM, Tracker

_USUAL_RATE = 25.0


class FrameOptions(TaskRequest):
    """The members that requests for videos and live streams have."""

    model_config = ConfigDict(extra="forbid")

    with_workflow: ClassVar[frozenset[str]] = frozenset({"workflow", "fps", "track"})
    """Members that do not depend on what is done with a frame."""

    task: Literal["detect", "classify", "embed"] = Field(
        "detect", description="What to do with each frame."
    )
    workflow: ModelName | None = Field(
        None, description="Run the steps of this workflow on each frame, in place of a task."
    )
    fps: Annotated[float, Field(gt=0, le=1000)] | None = Field(
        None,
        description="At most this many frames per second, by time stamps. The default is all.",
    )
    threshold: Ratio | None = Field(None, description="Lowest score of an object.")
    iou: Ratio | None = Field(
        None, description="Boxes of the same label that overlap more than this are one object."
    )
    max_detections: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        None, description="How many objects of a frame to return, best first."
    )
    masks: MaskForm = Field("none", description="How to write masks, for a model that finds them.")
    top_k: Annotated[int, Field(ge=1, le=100_000)] | None = Field(
        None, description="How many labels of a frame to return, best first."
    )
    labels: Labels | None = Field(
        None, description="Of classify: choose among these labels (zero-shot)."
    )
    hypothesis_template: Annotated[str, Field(min_length=1, max_length=1000)] | None = Field(
        None, description="Of labels: the text around each; `{}` is the place of the label."
    )
    multi_label: bool | None = Field(
        None, description="Of labels: whether each is scored by itself."
    )
    track: bool = Field(
        False,
        description="Of detect, and of a workflow that detects in its input: follow objects, which "
        "get an `id`; count them by label.",
    )
    segments: bool = Field(
        False, description="Of classify: also send the time spans in which a label is the best."
    )
    smoothing: Annotated[float, Field(ge=0, le=60)] = Field(
        0.5,
        description="Of segments: seconds after which an earlier frame counts a third.",
    )

    @model_validator(mode="after")
    def _is_of_its_task(self) -> Self:
        if self.track and self.task != "detect":
            raise ValueError("track is of task detect")
        if self.segments and self.task != "classify":
            raise ValueError("segments are of task classify")
        if self.labels is not None and self.task != "classify":
            raise ValueError("labels are of task classify")
        return self

    @model_validator(mode="after")
    def _fits_a_workflow(self) -> Self:
        others = self.model_fields_set - self.with_workflow
        if self.workflow is not None and others:
            raise ValueError(f"with a workflow, {min(others)} is of no use")
        return self

    @property
    def asked_task(self) -> Task | ComposedTask:
        """Return what the model must be able to do."""
        return Task(self.task) if self.labels is None else ComposedTask.ZERO_SHOT

    def given_labels(self, limits: ApiLimits) -> GivenLabels | None:
        """Return what to choose among; None for the model's own labels.

        Raises:
            InvalidInputError: a label or the template is not valid.
            LimitExceededError: there are too many labels, or one is too long.
        """
        if self.labels is None:
            return None
        for place, label in enumerate(self.labels):
            as_text(label, limits, f"labels[{place}]")
        return GivenLabels(tuple(self.labels), self.hypothesis_template, self.multi_label)

    @property
    def _least(self) -> float:
        return TRACKED_FROM if self.threshold is None else self.threshold

    def tracker(self, rate: float | None, least: float | None = None) -> Tracker | None:
        """Return what follows objects, if it is wanted.

        Args:
            rate: frames per second.
            least: score from which a box begins a track; the default is `threshold`.
        """
        if not self.track:
            return None
        return Tracker(self._least if least is None else least, rate or _USUAL_RATE)

    @property
    def spans(self) -> Spans | None:
        """Return what finds time spans, if it is wanted."""
        return Spans(self.smoothing) if self.segments else None

    @property
    def to_item(self) -> ToItem:
        """Return what makes an item of a frame."""
        match self.task:
            case "detect":
                # A tracker needs the uncertain boxes, too.
                least = min(self._least, LOWEST_SCORE) if self.track else self.threshold
                chosen = (least, self.iou, self.max_detections, self.masks)
                return lambda frame: DetectItem(frame, *chosen)
            case "classify":
                return lambda frame: ClassifyItem(frame, None if self.segments else self.top_k)
            case "embed":
                return EmbedItem

    async def asking(
        self, pipeline: Pipeline[Any, Any], request: Request, labels: GivenLabels | None
    ) -> Ask:
        """Return what asks a pipeline for a frame. Raises ServiceError."""
        return ask_pipeline if labels is None else await asking(pipeline, request, labels, "image")
