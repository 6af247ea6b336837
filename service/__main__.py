"""The command line: `python -m service serve | models | keys | settings | manifest`."""

import gc

if __name__ == "__main__":
    # What is imported stays. Looking for garbage in it would take an eighth of the time.
    gc.disable()

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.text import Text

from service import pull_command
from service.access.keys_file import KeysFileError, new_key, refuse_known
from service.api.certificate import CertificateError
from service.api.listening import AddressError
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
from service.manifest_page import manifest_page
from service.registry.registry import Registry
from service.repository.paths import MODEL_NAME
from service.repository.repository import ModelRepository
from service.runtime.providers import resolve
from service.serve_command import serve
from service.settings import (
    ModelSettings,
    Settings,
    SettingsError,
    read_settings,
    settings_page,
    split_options,
)
from service.telemetry.logs import configure_logs

_MISUSED = 2
"""Exit status for a command line or settings that cannot be obeyed, as argparse has it."""

_PIPED_WIDTH = 160

_OF_REPOSITORY = {"repository", "serve", "only", "versions", "defaults", "aliases", "state_file"}
"""Settings that name what is in the repository, and so say nothing of another."""

_EPILOG = "Every setting is an option too: --section.field VALUE. `settings` lists them."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 done, 1 failed, 2 misused."""
    given = sys.argv[1:] if arguments is None else arguments

    def run() -> int:
        options, left = split_options(given, pull_command.OPTIONS if "pull" in given else ())
        chosen = _parser().parse_args(left)
        command: Command = chosen.run
        return command(read_settings(os.environ, options), chosen)

    return _guarded(run)


def _guarded(run: Callable[[], int]) -> int:
    """Print an error of the user's and return the exit status for it."""
    try:
        return run()
    except (SettingsError, CertificateError, ServiceError, AddressError) as error:
        print(f"quartet: {error}", file=sys.stderr)
        return _MISUSED if isinstance(error, (SettingsError, CertificateError)) else 1


Command: TypeAlias = Callable[[Settings, argparse.Namespace], int]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="quartet", epilog=_EPILOG, allow_abbrev=False)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    serve = commands.add_parser("serve", help="answer requests until SIGTERM", epilog=_EPILOG)
    serve.set_defaults(run=_serve)
    models = commands.add_parser("models", help="look at the model repository", epilog=_EPILOG)
    actions = models.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="what is on disk; loads nothing", epilog=_EPILOG)
    listing.set_defaults(run=_list)
    check = actions.add_parser(
        "check", help="load, warm up and compare with the goldens", epilog=_EPILOG
    )
    check.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="a model, or the path of a folder (./exports/mine); all wanted models if none",
    )
    check.set_defaults(run=_check)
    pulling = actions.add_parser(
        "pull", help="bring a model of a hub or a store into the repository", epilog=_EPILOG
    )
    pull_command.add_arguments(pulling)
    clients = commands.add_parser("keys", help="keys of clients", epilog=_EPILOG)
    actions = clients.add_subparsers(required=True, metavar="ACTION")
    new = actions.add_parser(
        "new", help="print a new key, and the lines to add to the keys file", epilog=_EPILOG
    )
    new.add_argument("name", metavar="NAME", help="of the client; a label of metrics")
    new.set_defaults(run=_new_key)
    page = commands.add_parser("settings", help="list every setting, as Markdown")
    page.set_defaults(run=_settings)
    keys = commands.add_parser("manifest", help="list every key of model.toml, as Markdown")
    keys.set_defaults(run=_manifest)
    return parser


def _serve(settings: Settings, chosen: argparse.Namespace) -> int:
    logs = settings.logs
    configure_logs(logs.level, logs.format, levels=logs.levels)
    models = pull_command.with_pulled(settings.models)
    settings = settings.model_copy(update={"models": models})
    _refuse_absent(models)
    return serve(settings, _guarded)


def _refuse_absent(settings: ModelSettings) -> None:
    """Raise ModelNotFoundError, with the nearest name, for a model set but not on disk."""
    repository = ModelRepository(settings.repository, settings.folders)
    repository.models()  # also without a name set, the repository itself must be there
    aliased = [name.partition("@")[0] for name in settings.aliases]
    for name in (*settings.only, *settings.versions, *settings.defaults.values(), *aliased):
        with suppress(ModelLoadError):  # it is there, but broken: the others serve
            repository.versions(name)


def _list(settings: Settings, chosen: argparse.Namespace) -> int:
    models = settings.models
    repository = ModelRepository(models.repository, models.folders)
    found = repository.survey(models.precision, resolve(models.device).provider.precisions_of)
    console = _console()
    console.print(version_table(found))
    console.print("* the precision that would be loaded", style="dim")
    return _print_all(console, reasons(found))


def _check(settings: Settings, chosen: argparse.Namespace) -> int:
    # What a load has to say is in the tables; events would only cut through them.
    configure_logs("critical", settings.logs.format)
    checks = asyncio.run(_check_models(settings, chosen.names))
    console = _console()
    for check in checks:
        if check.files is not None and is_inferred(check.files):
            console.print(source_table(check.files))
        if check.status is not None:
            for table in curve_tables(check.status):
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


def _new_key(settings: Settings, chosen: argparse.Namespace) -> int:
    file = settings.access.keys_file
    try:
        if file is not None and file.exists():
            refuse_known(chosen.name, file)
        key, lines = new_key(chosen.name)
    except KeysFileError as error:
        raise SettingsError(str(error)) from None
    where = "your keys file (access.keys_file)" if file is None else str(file)
    print(f"Give the client this key. It is not shown again:\n\n{key}\n")
    print(f"Add these lines to {where}:\n\n{lines}")
    return 0


def _settings(settings: Settings, chosen: argparse.Namespace) -> int:
    print(settings_page(), end="")
    return 0


def _manifest(settings: Settings, chosen: argparse.Namespace) -> int:
    print(manifest_page(), end="")
    return 0


def _console() -> Console:
    # Piped into a file or another program, a table is not squeezed into 80 columns.
    return Console(width=None if sys.stdout.isatty() else _PIPED_WIDTH)


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())
