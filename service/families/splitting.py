"""When a text is divided for a model, and when it is one piece."""

from service.errors import InvalidInputError
from service.transforms.segmentation import Document, Fits, Splitting, needs_splitting, split


def divided(text: str, how: Splitting, fits: Fits) -> Document | None:
    """Return a text in pieces; None if it is one, so that nothing of it need be touched.

    Raises:
        InvalidInputError: no piece of it has a letter.
    """
    if not needs_splitting(text, how, fits):
        return None
    document = split(text, how, fits)
    if not document.segments:
        raise InvalidInputError("the text has nothing that could be translated")
    return document
