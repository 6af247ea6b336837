"""Recorded items with the answers of the original model: what a loaded version must repeat."""

from collections.abc import Mapping
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import ValidationError

from service.errors import ModelLoadError
from service.repository.golden_records import (
    ClassifyRecord,
    DetectRecord,
    EmbedRecord,
    GenerateRecord,
    Golden,
    InferRecord,
    Record,
    Shape,
    TagRecord,
    TranslateRecord,
)
from service.repository.paths import file_inside
from service.repository.tables import sentences
from service.tasks import Image, Task

__all__ = ("GOLDENS_FOLDER", "GOLDENS_NAME", "Golden", "read_goldens")

GOLDENS_NAME = "goldens.json"
GOLDENS_FOLDER = "goldens"


def read_goldens(folder: Path, task: Task, root: Path | None = None) -> tuple[Golden, ...]:
    """Return the goldens of a version; none if it has no `goldens.json`.

    Args:
        folder: the version's folder.
        task: what the version does.
        root: what no link may lead out of; None means the folder.

    Raises:
        ModelLoadError: the file, or an image that it names, cannot be read or is not of the
            task. The message names the file, the place in it and the reason.
    """
    path = folder / GOLDENS_NAME
    where = "/".join(path.parts[-3:])
    if not (path.exists() or path.is_symlink()):
        return ()
    boundary = folder if root is None else root
    file_inside(GOLDENS_NAME, folder, boundary, where.rpartition("/")[0])

    def read_image(name: str) -> Image:
        return Image(file_inside(name, folder, boundary, where).read_bytes())

    try:
        file = _FILES[task].model_validate_json(path.read_bytes())
        return tuple(record.to_golden(read_image) for record in file.items)
    except ValidationError as error:
        raise ModelLoadError(f"{where}: {'; '.join(sentences(error))}") from None
    except OSError as error:
        raise ModelLoadError(f"{where} cannot be read: {error.strerror}") from None


_Record_co = TypeVar("_Record_co", bound=Record, covariant=True)


class _File(Shape, Generic[_Record_co]):
    created_with: str
    items: tuple[_Record_co, ...]


_FILES: Mapping[Task, type[_File[Record]]] = {
    Task.CLASSIFY: _File[ClassifyRecord],
    Task.TAG: _File[TagRecord],
    Task.TRANSLATE: _File[TranslateRecord],
    Task.GENERATE: _File[GenerateRecord],
    Task.DETECT: _File[DetectRecord],
    Task.EMBED: _File[EmbedRecord],
    Task.SPARSE: _File[EmbedRecord],
    Task.INFER: _File[InferRecord],
}
