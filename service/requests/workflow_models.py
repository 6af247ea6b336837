"""The models of a workflow's steps: found, allowed to the caller, and held."""

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeAlias

from service.errors import ServiceError, named
from service.repository.workflows import ClassifyStep, ModelStep, TranslateStep, Workflow
from service.requests.admission import ApiLimits
from service.requests.answer import Ask, Models, ask_pipeline, found
from service.requests.documents import Documents
from service.requests.pipeline import Pipeline
from service.requests.request import Request
from service.requests.segment_stream import DocumentLimits
from service.requests.windowed import Window
from service.requests.zero_shot import GivenLabels, asking

ModelsOfSteps: TypeAlias = Mapping[str, Pipeline[Any, Any]]
"""By step that asks a model."""


def models_of(models: Models, workflow: Workflow) -> ModelsOfSteps:
    """Return the model of each step that asks one.

    Raises:
        ServiceError: a model is not there, not ready, or cannot do it; or labels are not valid. The
            message begins with the name of the step.
    """
    known: dict[str, Pipeline[Any, Any]] = {}
    for name, step in _model_steps(workflow).items():
        try:
            _labels(step)
            known[name] = models.find(step.ability, workflow.modality(step), step.model, None)
        except ServiceError as error:
            raise named(name, error) from None
    return known


async def allowed_models(models: Models, request: Request, workflow: Workflow) -> ModelsOfSteps:
    """Return the model of each step, loaded, once the caller is allowed to use all of them.

    Raises:
        ServiceError: a model cannot be asked, or the caller may not ask it. The message begins with
            the name of the step.
    """
    known = await found(partial(models_of, models, workflow), request)
    for name, step in _model_steps(workflow).items():
        if request.caller is not None:
            try:
                await request.caller.spend(step.ability, (known[name].model.name,), [])
            except ServiceError as error:
                raise named(name, error) from None
    return known


async def windows_of(
    known: ModelsOfSteps, request: Request, workflow: Workflow, limits: ApiLimits, stack: ExitStack
) -> Mapping[str, Window]:
    """Return what asks the model of each step; the models are held until the stack is closed.

    Raises:
        ServiceError: a label of a step could not be computed. The message begins with the name of
            the step.
    """
    windows: dict[str, Window] = {}
    for pipeline in known.values():
        stack.enter_context(pipeline.held())
    for name, step in _model_steps(workflow).items():
        try:
            ask = await _asking(known[name], request, step, workflow.modality(step), limits)
        except ServiceError as error:
            raise named(name, error) from None
        windows[name] = Window(known[name], request, ask)
    return windows


def _model_steps(workflow: Workflow) -> Mapping[str, ModelStep]:
    return {name: step for name, step in workflow.steps.items() if isinstance(step, ModelStep)}


def _labels(step: ModelStep) -> GivenLabels | None:
    """Return what a step chooses among. Raises InvalidInputError, LimitExceededError."""
    if not isinstance(step, ClassifyStep) or step.labels is None:
        return None
    return GivenLabels(step.labels, step.hypothesis_template, step.multi_label)


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
