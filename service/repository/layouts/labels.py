"""The names of a head's outputs; what the layouts of classifiers and detectors have in common."""

from collections.abc import Iterator, Mapping

from service.repository.layouts.exports import CONFIG, MODEL_ROLE, ExportFiles
from service.repository.layouts.facts import Fact, Finding, Unknown
from service.repository.layouts.timm import is_timm, timm_labels

_KEY = "parameters.labels"
_RANK = 2
_DEFAULT_LABELS = 2


def label_facts(files: ExportFiles) -> Iterator[Finding]:
    """Tell the labels, in the order of the head's outputs, by `id2label`."""
    named = files.config.get("id2label")
    if is_timm(files) and (names := timm_labels(files)):
        yield Fact(_KEY, names, f"{CONFIG}: label_names")
        return
    if CONFIG in files.tables and "id2label" not in files.config:
        # transformers does not write down what is its default.
        source = f"{CONFIG} has no id2label: transformers' default"
        yield Fact(_KEY, [f"LABEL_{number}" for number in range(_outputs(files))], source)
        return
    if not isinstance(named, Mapping) or not named:
        yield Unknown(_KEY, f"{CONFIG} has no id2label")
        return
    if any(name is None or isinstance(name, Mapping | list) for name in named.values()):
        yield Unknown(_KEY, f"a name in id2label in {CONFIG} is no text")
        return
    try:
        by_id = {int(number): str(name) for number, name in named.items()}
    except ValueError:
        yield Unknown(_KEY, f"a key of id2label in {CONFIG} is not a number")
        return
    if sorted(by_id) != list(range(len(by_id))):
        yield Unknown(_KEY, f"id2label in {CONFIG} does not name the outputs from 0 on")
        return
    yield Fact(_KEY, [by_id[number] for number in range(len(by_id))], f"{CONFIG}: id2label")


def only_label(files: ExportFiles) -> str | None:
    """Return by what it is known that the head gives one score; None if it gives several."""
    named = files.config.get("id2label")
    if isinstance(named, Mapping):
        return f"{CONFIG}: id2label has one label" if len(named) == 1 else None
    if CONFIG in files.tables and _outputs(files) == 1:
        return f"{CONFIG} has no id2label, and the graph gives one score"
    return None


def _outputs(files: ExportFiles) -> int:
    """Return how many scores the head gives: by the graph, else by config.json, else two."""
    if files.graphs.get(MODEL_ROLE):
        shape = next(iter(files.signature().outputs.values())).shape
        if len(shape) == _RANK and shape[1] is not None:
            return shape[1]
    for key in ("num_labels", "num_classes"):
        if isinstance(count := files.config.get(key), int) and count > 0:
            return count
    return _DEFAULT_LABELS
