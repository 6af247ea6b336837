"""The commands that show models: `python -m service models list` and `models check`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from service.app import build_engine
from service.console import (
    Check,
    candidate_table,
    curve_tables,
    is_inferred,
    parity_table,
    reasons,
    source_table,
    version_table,
)
from service.errors import ModelLoadError, ServiceError
from service.registry.registry import Registry
from service.repository.paths import MODEL_NAME
from service.repository.repository import ModelRepository
from service.runtime.providers import resolve
from service.settings import ModelSettings, Settings
from service.telemetry.logs import configure_logs

_PIPED_WIDTH = 160

_OF_REPOSITORY = {"repository", "serve", "only", "versions", "defaults", "aliases", "state_file"}
"""Settings that name what is in the repository, and so say nothing of another."""


def show(settings: Settings, chosen: argparse.Namespace) -> int:
    """Print what is on disk, and load nothing."""
    models = settings.models
    repository = ModelRepository(models.repository, models.folders)
    found = repository.survey(models.precision, resolve(models.device).provider.precisions_of)
    console = _console()
    console.print(version_table(found))
    console.print("* the precision that would be loaded", style="dim")
    return _print_all(console, reasons(found))


def check(settings: Settings, chosen: argparse.Namespace) -> int:
    """Load the named models, compare them with their goldens, and print what was found."""
    # What a load has to say is in the tables; events would only cut through them.
    configure_logs("critical", settings.logs.format)
    checks = asyncio.run(_check_models(settings, chosen.names))
    console = _console()
    for one in checks:
        if one.files is not None and is_inferred(one.files):
            console.print(source_table(one.files))
        if one.status is not None:
            for table in curve_tables(one.status):
                console.print(table)
    if (candidates := candidate_table(checks)) is not None:
        console.print(candidates)
    console.print(parity_table(checks))
    if not checks:
        console.print("there is no model to check", style="red")
        return 1
    return _print_all(console, reasons(checks))


def _print_all(console: Console, lines: Iterable[Text]) -> int:
    """Print why something is not as it should be; return the exit status that follows."""
    found = list(lines)
    for line in found:
        console.print(line)
    return 1 if found else 0


async def _check_models(settings: Settings, names: Sequence[str]) -> list[Check]:
    paths = [name for name in names if _is_path(name)]
    named = [name for name in names if name not in paths]
    checks = []
    if named or not paths:
        checks += await _check_named(settings, named)
    for path in paths:
        checks += await _check_folder(settings, path)
    return checks


def _is_path(name: str) -> bool:
    return os.sep in name or name in (os.curdir, os.pardir)


async def _check_folder(settings: Settings, path: str) -> list[Check]:
    try:
        alone, name = _alone(settings, Path(path))
    except ModelLoadError as error:
        return [Check(path, None, None, str(error))]
    return await _check_named(alone, [name])


def _alone(settings: Settings, path: Path) -> tuple[Settings, str]:
    """Return a folder's name, and settings as if it were alone in a repository.

    Raises:
        ModelLoadError: there is no such folder, or no model can have its name.
    """
    folder = path.resolve()
    if not folder.is_dir():
        raise ModelLoadError("there is no such folder")
    if not MODEL_NAME.fullmatch(folder.name):
        raise ModelLoadError(f"{folder.name!r} cannot be a model's name: rename the folder")
    others = settings.models.model_dump(exclude=_OF_REPOSITORY)
    models = ModelSettings(repository=folder.parent, **others)
    return settings.model_copy(update={"models": models}), folder.name


async def _check_named(settings: Settings, names: Sequence[str]) -> list[Check]:
    repository = ModelRepository(settings.models.repository, settings.models.folders)
    models = settings.models.model_copy(update={"measurements": None})  # it measures everything
    engine = build_engine(settings.model_copy(update={"models": models}))
    async with engine.running() as registry:
        wanted = names or settings.models.only or repository.models()
        return [await _check_model(name, repository, registry, settings) for name in wanted]


async def _check_model(
    name: str, repository: ModelRepository, registry: Registry, settings: Settings
) -> Check:
    models = settings.models
    files = None
    try:
        kind = resolve(models.device).provider.precisions_of
        files = repository.open(name, models.versions.get(name), models.precision, kind)
        return Check(name, files, await registry.load(name))
    except ServiceError as error:
        return Check(name, files, None, str(error))


def _console() -> Console:
    # Piped into a file or another program, a table is not squeezed into 80 columns.
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)
