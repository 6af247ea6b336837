"""What config.json says: labels, and the settings that timm writes for images."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.repository.layouts.exports import CONFIG, MODEL_ROLE, ExportFiles
from service.repository.layouts.facts import Fact, Finding, Unknown, pixel_spec
from service.transforms.vision.processing import RESAMPLES

_KEY = "pretrained_cfg"
_SIZE = (3, 224, 224)
_CROP_SHARE = 0.875
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def is_timm(files: ExportFiles) -> bool:
    """Tell whether config.json is timm's, or of transformers' wrapper of timm's models."""
    return isinstance(files.config.get(_KEY), Mapping)


def timm_names_classes(files: ExportFiles) -> bool:
    """Tell whether it is a classifier of images, whose architecture timm calls by its own names."""
    if files.architecture or not is_timm(files) or MODEL_ROLE not in files.graphs:
        return False
    return pixel_spec(files.signature()) is not None and _classes(files) != 0


def timm_embeds(files: ExportFiles) -> bool:
    """Tell whether it is a network without a head, which timm says by having no classes."""
    if not is_timm(files) or MODEL_ROLE not in files.graphs:
        return False
    headless = _classes(files) == 0 or files.architecture.endswith("Model")
    return headless and pixel_spec(files.signature()) is not None


def timm_labels(files: ExportFiles) -> list[str]:
    """Return the names of the classes; none where timm leaves them to a list of its own."""
    named = files.config.get("label_names", _cfg(files).get("label_names"))
    return list(map(str, named)) if isinstance(named, Sequence) else []


def timm_processing(files: ExportFiles, key: str) -> Iterator[Finding]:
    """Tell the recipe of timm's transforms for evaluation.

    Args:
        files: the directory.
        key: the table of the manifest that the recipe is.
    """
    try:
        steps = list(_steps(_cfg(files)))
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError) as error:
        yield Unknown(key, f"{_KEY} in {CONFIG} cannot be followed: {error}")
        return
    for step, value, said_by in steps:
        named = f"{_KEY}.{said_by}" if said_by in _cfg(files) else f"{_KEY}, timm's default"
        yield Fact(f"{key}.{step}", value, f"{CONFIG}: {named}")


def _cfg(files: ExportFiles) -> Mapping[str, Any]:
    declared: Mapping[str, Any] = files.config[_KEY]
    return {key: value for key, value in declared.items() if value is not None}


def _classes(files: ExportFiles) -> object:
    return files.config.get("num_classes", _cfg(files).get("num_classes"))


def _steps(cfg: Mapping[str, Any]) -> Iterator[tuple[str, Any, str]]:
    """Yield key, value and the key of `pretrained_cfg` that decides on it."""
    _, height, width = (int(length) for length in cfg.get("input_size", _SIZE))
    share = float(cfg.get("crop_pct") or _CROP_SHARE)
    size = [math.floor(length / share) for length in (height, width)]
    match mode := cfg.get("crop_mode") or "center":
        case "squash":
            yield "resize", "stretch", "crop_mode"
            yield "size", size, "input_size"
        case "center" if size[0] == size[1]:
            yield "resize", "shortest_edge", "crop_mode"
            yield "shortest_edge", size[0], "input_size"
        case _:
            raise ValueError(f"crop_mode {mode!r} of {height} x {width} pixels is not known here")
    yield "crop", [height, width], "input_size"
    yield "crop_rounds", "even", "crop_mode"
    resample = str(cfg.get("interpolation") or "bicubic")
    if resample not in RESAMPLES:
        raise ValueError(f"interpolation {resample!r} is not known here")
    yield "resample", resample, "interpolation"
    for key, default in zip(("mean", "std"), _IMAGENET, strict=True):
        yield key, [float(part) for part in cfg.get(key) or default], key


_LABELS = "parameters.labels"
_RANKS = (2, 3)
"""Axes of the scores of whole texts or images, and of those of tokens."""
_DEFAULT_LABELS = 2


def label_facts(files: ExportFiles) -> Iterator[Finding]:
    """Tell the labels, in the order of the head's outputs, by `id2label`."""
    named = files.config.get("id2label")
    if is_timm(files) and (names := timm_labels(files)):
        yield Fact(_LABELS, names, f"{CONFIG}: label_names")
        return
    if CONFIG in files.tables and "id2label" not in files.config:
        # transformers does not write down what is its default.
        source = f"{CONFIG} has no id2label: transformers' default"
        yield Fact(_LABELS, [f"LABEL_{number}" for number in range(_outputs(files))], source)
        return
    if not isinstance(named, Mapping) or not named:
        yield Unknown(_LABELS, f"{CONFIG} has no id2label")
        return
    if any(name is None or isinstance(name, Mapping | list) for name in named.values()):
        yield Unknown(_LABELS, f"a name in id2label in {CONFIG} is no text")
        return
    try:
        by_id = {int(number): str(name) for number, name in named.items()}
    except ValueError:
        yield Unknown(_LABELS, f"a key of id2label in {CONFIG} is not a number")
        return
    if sorted(by_id) != list(range(len(by_id))):
        yield Unknown(_LABELS, f"id2label in {CONFIG} does not name the outputs from 0 on")
        return
    yield Fact(_LABELS, [by_id[number] for number in range(len(by_id))], f"{CONFIG}: id2label")


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
        if len(shape) in _RANKS and shape[-1] is not None:
            return shape[-1]
    for key in ("num_labels", "num_classes"):
        if isinstance(count := files.config.get(key), int) and count > 0:
            return count
    return _DEFAULT_LABELS
