"""What a family feeds, made to fit the graph at hand: exports of one model differ in it."""

from typing import Any

from numpy.typing import NDArray

from service.errors import InferenceError
from service.types import Feeds, Session


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
        try:
            fed[name] = feeds[name].astype(spec.dtype, copy=False)
        except TypeError:  # of a type that numpy does not have, such as bfloat16
            raise InferenceError(
                f"the graph wants {name!r} as {spec.dtype}, which is not fed: export it in "
                "another precision"
            ) from None
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
