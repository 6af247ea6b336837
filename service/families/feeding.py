"""What a family feeds, made to fit the graph at hand: exports of one model differ in it."""

from contextlib import suppress
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from service.errors import InferenceError
from service.types import Feeds, Session

_FED = "biuf"
"""Kinds of types, by numpy's letters: truth values, whole numbers and floating ones."""


def fitted(feeds: Feeds, session: Session) -> Feeds:
    """Return what the graph asks for of these feeds, each in the type it asks for.

    Raises:
        InferenceError: the graph asks for something that is not among them, or in a type that
            they cannot be made into.
    """
    fed = {}
    for name, spec in session.inputs.items():
        if name not in feeds:
            raise InferenceError(
                f"the graph wants {name!r}, which this family does not feed: "
                "another family, or another export of the model, may fit"
            )
        fed[name] = feeds[name].astype(_fed_dtype(name, spec.dtype), copy=False)
    return fed


def one_output(outputs: Feeds, name: str) -> NDArray[Any]:
    """Return an output by name; the only one there is may have any name.

    Raises:
        InferenceError: there are several, none of them of this name.
    """
    if name in outputs:
        return outputs[name]
    if len(outputs) > 1:
        raise InferenceError(f"the graph gives {', '.join(outputs)}, but no {name!r}")
    return next(iter(outputs.values()))


@lru_cache(256)  # every batch asks the same of the graphs that are loaded
def _fed_dtype(name: str, wanted: str) -> np.dtype[Any]:
    with suppress(TypeError):  # of a type that numpy does not have, such as bfloat16
        dtype = np.dtype(wanted)
        if dtype.kind in _FED:  # other packages lend numpy such types, but sessions take none
            return dtype
    raise InferenceError(
        f"the graph wants {name!r} as {wanted}, which is not fed: export it in another precision"
    )
