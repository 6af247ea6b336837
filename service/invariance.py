"""Whether a text's answer depends on the longer text that it is padded next to.

Goldens tell, where a version has them. Without them it is measured on made-up texts: a graph whose
activations were quantised by texts that were never padded can read what its mask should hide.
"""

from typing import Any

import numpy as np

from service.repository.repository import VersionFiles
from service.runtime.instances import Instances
from service.tasks import Task
from service.types import Family, Tensors

_TEXTS = "input_ids"
_LENGTH = 16
"""Of the longer text, at least."""


def reads_padding(files: VersionFiles, family: Family[Any, Any], instances: Instances) -> list[str]:
    """Return the sessions in which a short text is answered otherwise beside a longer one.

    None for a version with goldens, which are compared in that way too, and for translators.
    """
    if files.goldens or files.manifest.task not in (Task.CLASSIFY, Task.EMBED):
        return []
    found: list[str] = []
    for lane in family.lanes:
        lengths = [length for length in lane.lengths if length >= _LENGTH]
        if _TEXTS not in family.probe(lane.name, lane.lengths[0]).tensors or len(lane.lengths) < 2:  # noqa: PLR2004
            continue
        long = family.probe(lane.name, min(lengths, default=lane.lengths[-1]))
        short = family.probe(lane.name, lane.lengths[0])
        (alone,) = instances.infer(family.infer, [short], alone=False)
        beside, _ = instances.infer(family.infer, [short, long], alone=False)
        if _difference(alone, beside) > files.tolerance:
            found += lane.sessions
    return found


def _difference(one: Tensors, other: Tensors) -> float:
    """Return the largest difference of what is no whole number."""
    floats = [name for name, value in one.items() if value.dtype.kind == "f"]
    return max((float(np.abs(one[name] - other[name]).max()) for name in floats), default=0.0)
