"""Which wanted models cannot answer, and why."""

from collections.abc import Collection, Iterable

from service import metrics


class Readiness:
    """The wanted models that cannot answer: those to load at start, and the configured defaults."""

    def __init__(self, defaults: Collection[str]) -> None:
        self._defaults = frozenset(defaults)
        self.reasons: dict[str, str] = {}

    def want(self, models: Iterable[str]) -> None:
        """Note what is to be loaded at start."""
        missing = "it is a default, but not among the models to load"
        self.reasons = dict.fromkeys(sorted(self._defaults), missing)
        self.reasons |= dict.fromkeys(models, "not loaded yet")
        for model in self.reasons:
            metrics.MODEL_READY.labels(model).set(0)

    def note_failed(self, model: str, reason: str) -> None:
        """Note why a load failed; a model that serves, or is not wanted, stays as it is."""
        if model in self.reasons:
            self.reasons[model] = reason

    def note_serving(self, model: str) -> None:
        """Note that a model answers."""
        self.reasons.pop(model, None)
        metrics.MODEL_READY.labels(model).set(1)

    def note_unloaded(self, model: str) -> None:
        """Note that a model was unloaded: it is not wanted any more, unless it is a default."""
        if model in self._defaults:
            self.reasons[model] = "it is a default, but was unloaded"
            metrics.MODEL_READY.labels(model).set(0)
        else:
            self.reasons.pop(model, None)
            metrics.MODEL_READY.remove_by_labels({"model": model})
