"""The command line: `python -m service serve | models | keys | settings | manifest`."""

import gc

if __name__ == "__main__":
    # What is imported stays. Looking for garbage in it would take an eighth of the time.
    gc.disable()

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from service import pull_command
from service.access.keys_file import KeysFileError, new_key, refuse_known
from service.api.certificate import CertificateError
from service.api.listening import AddressError
from service.errors import ModelLoadError, ServiceError
from service.manifest_page import manifest_page
from service.repository.repository import ModelRepository
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
    from service.models_command import show  # noqa: PLC0415 - a server prints no tables

    return show(settings, chosen)


def _check(settings: Settings, chosen: argparse.Namespace) -> int:
    from service.models_command import check  # noqa: PLC0415 - a server prints no tables

    return check(settings, chosen)


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


if __name__ == "__main__":
    gc.freeze()
    gc.enable()
    sys.exit(main())
