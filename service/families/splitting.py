"""When a text is divided for a model, and when it is one piece."""

from service.transforms.segmentation import Document, Fits, Splitting, needs_splitting, split


def divided(text: str, how: Splitting, fits: Fits) -> Document | None:
    """Return a text in pieces; None if it is one, or has no words: then it stays as it is."""
    if not needs_splitting(text, how, fits):
        return None
    document = split(text, how, fits)
    return document if document.segments else None
