"""The workflows of the repository, and whether the models of their steps can answer."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from service.errors import ModelNotFoundError, ModelNotReadyError, ServiceError
from service.repository.listing import ListedWorkflow
from service.repository.tables import did_you_mean
from service.repository.workflows import ModelStep, Workflow
from service.requests.answer import Models
from service.requests.workflow_models import models_of

State: TypeAlias = Literal["ready", "not_ready", "failed"]


@dataclass(frozen=True, slots=True)
class StepStatus:
    """One step, as it is listed."""

    name: str
    task: str
    input: str
    """The step whose result it takes, or `input`."""
    model: str | None
    """Null for a crop, and for the default model of the task."""


@dataclass(frozen=True, slots=True)
class WorkflowStatus:
    """What an operator wants to know about one workflow."""

    workflow: str
    state: State
    """`not_ready`: a model is not loaded yet, or not any more. `failed`: it cannot run as it is."""
    reason: str | None = None
    """Why it cannot run; or what is wrong with its file while the file read before is in use."""
    description: str = ""
    input: Literal["image", "text"] | None = None
    steps: tuple[StepStatus, ...] = ()


class Workflows:
    """Finds workflows by name."""

    def __init__(self, listed: Callable[[], Mapping[str, ListedWorkflow]], models: Models) -> None:
        self._listed, self._models = listed, models

    def find(self, name: str) -> Workflow:
        """Return a workflow.

        Raises:
            ModelNotFoundError: there is none of this name; a near one is suggested.
            ModelNotReadyError: its file is not valid.
        """
        listed = self._listed()
        if (found := listed.get(name)) is None:
            raise ModelNotFoundError(f"there is no workflow {name!r}{did_you_mean(name, listed)}")
        if found.workflow is None:
            raise ModelNotReadyError(f"workflow {name!r} is not ready: {found.reason}")
        return found.workflow

    def statuses(self) -> Sequence[WorkflowStatus]:
        """Return every workflow, by name."""
        return [self._status(name, one) for name, one in sorted(self._listed().items())]

    def _status(self, name: str, listed: ListedWorkflow) -> WorkflowStatus:
        workflow, reason = listed.workflow, listed.reason
        state: State = "ready"
        if workflow is None:
            return WorkflowStatus(name, "failed", reason)
        try:
            models_of(self._models, workflow)
        except ServiceError as error:
            state = "not_ready" if isinstance(error, ModelNotReadyError) else "failed"
            reason = str(error)
        steps = tuple(
            StepStatus(
                step, one.task, str(one.input), one.model if isinstance(one, ModelStep) else None
            )
            for step, one in workflow.steps.items()
        )
        return WorkflowStatus(name, state, reason, workflow.description, workflow.input, steps)
