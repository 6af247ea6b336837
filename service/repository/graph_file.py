"""An ONNX file, opened to be looked at in place rather than loaded."""

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service.errors import ModelLoadError
from service.repository.stand_ins import other_format, stand_in


@contextmanager
def mapped(graph: Path, where: str = "") -> Iterator[mmap.mmap]:
    """Give the content of a graph's file; a ValueError about it becomes a sentence.

    Args:
        graph: the file.
        where: who names it, for the error.

    Raises:
        ModelLoadError: the file cannot be read, or is something else than an ONNX graph.
    """
    named = f"{where}: {graph.name}" if where else graph.name
    try:
        if said := stand_in(graph):
            raise ModelLoadError(f"{named} {said}")
        if kind := other_format(graph):
            raise ModelLoadError(f"{named} is {kind}, not an ONNX graph")
        with (
            graph.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            yield content
    except OSError as error:
        raise ModelLoadError(f"{named} cannot be read: {error.strerror}") from None
    except ValueError as error:  # also of texts that are not UTF-8
        raise ModelLoadError(
            f"{named} is not an ONNX graph: {error}; copy or export it again"
        ) from None
