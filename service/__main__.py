"""The command line: `python -m service serve | models list | models check | settings`."""

import argparse
import asyncio
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

from rich.console import Console

from service.api import Lifecycle
from service.app import build_app, open_registry
from service.console import Check, curve_tables, parity_table, version_table
from service.errors import ServiceError
from service.logs import configure_logs
from service.registry import Registry
from service.repository.repository import ModelRepository, Unusable, VersionFiles
from service.runtime.devices import resolve
from service.server import ServerOptions, run_server
from service.settings import (
    ServerSettings,
    Settings,
    SettingsError,
    read_settings,
    settings_page,
    split_options,
)

_MISUSED = 2
"""Exit status for a command line or settings that cannot be obeyed, as argparse has it."""

_PIPED_WIDTH = 160
_EPILOG = "Every setting is an option too: --section.field VALUE. `settings` lists them."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return the exit status: 0 done, 1 failed, 2 misused."""
    try:
        options, left = split_options(sys.argv[1:] if arguments is None else arguments)
        chosen = _parser().parse_args(left)
        settings = read_settings(os.environ, options)
        run: Command = chosen.run
        return run(settings, chosen)
    except (SettingsError, ServiceError) as error:
        print(f"quartet: {error}", file=sys.stderr)
        return _MISUSED if isinstance(error, SettingsError) else 1


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
    check.add_argument("names", nargs="*", metavar="NAME", help="all wanted models if none")
    check.set_defaults(run=_check)
    page = commands.add_parser("settings", help="list every setting, as Markdown")
    page.set_defaults(run=_settings)
    return parser


def _serve(settings: Settings, chosen: argparse.Namespace) -> int:
    configure_logs(settings.server.log_level, settings.server.log_format)
    lifecycle = Lifecycle()

    def refuse_new_work() -> None:
        lifecycle.shutting_down = True

    run_server(build_app(settings, lifecycle), _server_options(settings.server), refuse_new_work)
    return 0


def _list(settings: Settings, chosen: argparse.Namespace) -> int:
    models = settings.models
    repository = ModelRepository(models.repository)
    found = repository.survey(models.precision, resolve(models.device).kind)
    console = _console()
    console.print(version_table(found))
    console.print("* the precision that would be loaded", style="dim")
    return 1 if any(isinstance(one, Unusable) for one in found) else 0


def _check(settings: Settings, chosen: argparse.Namespace) -> int:
    # What is said about the load is in the table; other events would only cut through it.
    configure_logs("error" if settings.server.log_level == "info" else settings.server.log_level,
                   settings.server.log_format)
    checks = asyncio.run(_check_models(settings, chosen.names))
    console = _console()
    for check in checks:
        if check.status is not None:
            for table in curve_tables(check.status):
                console.print(table)
    console.print(parity_table(checks))
    return 0 if checks and all(check.passed for check in checks) else 1
