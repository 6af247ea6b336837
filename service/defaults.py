"""Which model answers a request that names none. Once decided, that never changes by itself."""

from collections.abc import Iterable, Mapping
from typing import TypeAlias

from service.errors import ModelNotFoundError, ModelNotReadyError, ModelRequiredError
from service.tasks import Task

Ability: TypeAlias = tuple[Task, str]
"""A task and a modality."""


class Defaults:
    """The default model of each task and modality.

    It is the model that the operator set. Else it is the only wanted model of the repository that
    has the ability; where several have it there is none, and a request must name its model. An
    ability that no wanted model has goes to the first model loaded later that has it. A default
    stays when its model fails or is unloaded, and when other models are loaded.
    """

    def __init__(self, configured: Mapping[str, str] | None) -> None:
        self.configured: Mapping[Ability, str] = {
            (Task(task), modality): name
            for key, name in (configured or {}).items()
            for task, _, modality in [key.partition(".")]
        }
        self._models: dict[Ability, str] = dict(self.configured)
        self._candidates: dict[Ability, list[str]] = {}
        self._is_decided = False
        self._early: list[tuple[str, frozenset[Ability]]] = []

    def decide(self, wanted: Mapping[str, Iterable[Ability]]) -> None:
        """Choose among the wanted models, given what each can do. Call once."""
        for model, abilities in sorted(wanted.items()):
            for ability in abilities:
                self._candidates.setdefault(ability, []).append(model)
        for ability, models in self._candidates.items():
            if len(models) == 1:
                self._models.setdefault(ability, models[0])
        self._is_decided = True
        for early in self._early:
            self.note(*early)
        self._early.clear()

    def note(self, model: str, abilities: Iterable[Ability]) -> None:
        """Note that a model was loaded: it becomes the default of what no other model could do."""
        if not self._is_decided:
            self._early.append((model, frozenset(abilities)))
            return
        for ability in abilities:
            if ability not in self._candidates:
                self._models.setdefault(ability, model)

    def of(self, model: str) -> list[Ability]:
        """Return the abilities for which a model is the default."""
        return sorted(ability for ability, name in self._models.items() if name == model)

    def get(self, task: Task, modality: str) -> str:
        """Return the name of the default model; it may not be loaded.

        Raises:
            ModelRequiredError: several models could answer, and none of them is the default.
            ModelNotReadyError: the repository's models are still being read.
            ModelNotFoundError: no model can do this.
        """
        name = self._models.get((task, modality))
        if name is not None:
            return name
        if not self._is_decided:
            raise ModelNotReadyError(f"no model is ready yet to {task} {modality}s")
        if models := self._candidates.get((task, modality)):
            raise ModelRequiredError(
                f"several models {task} {modality}s: name {' or '.join(models)} as the model"
            )
        raise ModelNotFoundError(f"no model here can {task} {modality}s")
