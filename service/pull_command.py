"""`python -m service models pull`, and the pulls at start for `models.serve`."""

import argparse
import logging
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from service.errors import ModelLoadError
from service.repository.manifest import PRECISIONS
from service.repository.paths import MODEL_NAME
from service.repository.pull.pull import Pulled, Wanted, find_pulled, pull
from service.repository.pull.reference import HUB, Reference, is_reference, parse_reference
from service.repository.repository import ModelRepository
from service.runtime.providers import resolve
from service.settings import ModelSettings, Settings, SettingsError
from service.telemetry.logs import configure_logs

_log = logging.getLogger(__name__)

OPTIONS = ("--as", "--precision", "--export")
"""Of this command, not settings."""

_EXPORTER = "models.export"
_NEEDED_BY_EXPORT = ("models", "torch", "transformers", "onnx")
_LONGEST_EXPORT = 6 * 3600


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    schemes = "hf://org/name[@revision], s3://, gs://, https:// or file://"
    parser.add_argument("source", metavar="SOURCE", help=schemes)
    parser.add_argument("--as", dest="name", metavar="NAME", help="the model's name here")
    parser.add_argument("--precision", choices=PRECISIONS, help="of the graphs to pull")
    parser.add_argument(
        "--export",
        action="store_true",
        help="export a checkpoint of the Hub that has no ONNX graphs (needs the extra train)",
    )
    parser.set_defaults(run=run)


def run(settings: Settings, chosen: argparse.Namespace) -> int:
    """Pull one model, check that it can be read, and show it.

    Raises:
        SettingsError: the source or the name cannot be one.
        ModelLoadError: it cannot be pulled, or what was pulled cannot be served.
    """
    from rich.console import Console  # noqa: PLC0415 - a server prints no tables

    from service.console import version_table  # noqa: PLC0415
    from service.pull_progress import shown_pull  # noqa: PLC0415

    configure_logs(settings.logs.level, settings.logs.format, levels=settings.logs.levels)
    models = settings.models
    try:
        reference = parse_reference(chosen.source)
        name = chosen.name or reference.name
    except ModelLoadError as error:
        raise SettingsError(f"{error}{'' if chosen.name else ' (--as NAME)'}") from None
    if not MODEL_NAME.fullmatch(name):
        raise SettingsError(f"--as: {name[:100]!r} cannot be a model's name")
    kind = resolve(models.device).provider.precisions_of
    precision = chosen.precision or models.precision
    export = exported if chosen.export else None
    with shown_pull() as observer:
        wanted = Wanted(reference, name, precision, kind, export)
        pulled = pull(models.repository, wanted, observer)
    files = ModelRepository(models.repository).open(name, pulled.version, precision, kind)
    console = Console(width=None if sys.stdout.isatty() else 160)
    console.print(version_table([files]))
    state = "pulled" if pulled.is_new else "was there already"
    console.print(f"{name}/{pulled.version} {state}: {reference} is {pulled.record.revision}")
    return 0


def with_pulled(models: ModelSettings) -> ModelSettings:
    """Return the settings once every model of `models.serve` is in the repository.

    A model that an earlier pull brought for the same reference is not looked up again.

    Raises:
        ModelLoadError: a model cannot be pulled.
    """
    if not models.serve:
        return models
    kind = resolve(models.device).provider.precisions_of
    pinned = dict(models.versions)
    for name, place in models.serve.items():
        if not is_reference(place):
            continue
        wanted = Wanted(parse_reference(place), name, models.precision, kind)
        version = _at_start(models.repository, wanted).version
        if version != ModelRepository(models.repository).versions(name)[-1]:
            pinned.setdefault(name, version)
    only = tuple(dict.fromkeys((*models.serve, *models.only)))
    return models.model_copy(update={"versions": pinned, "only": only})


def _at_start(root: Path, wanted: Wanted) -> Pulled:
    if known := find_pulled(root, wanted):
        facts = {"model": wanted.model, "source": str(wanted.reference)}
        _log.info("model is there", extra={**facts, "revision": known.record.revision})
        return known
    from service.pull_progress import shown_pull  # noqa: PLC0415 - seldom at a start

    with shown_pull() as observer:
        return pull(root, wanted, observer)


def exported(reference: Reference, revision: str, folder: Path) -> None:
    """Export a checkpoint of the Hub into a folder, in a process of its own.

    Raises:
        ModelLoadError: the extra train is missing, or the export failed.
    """
    if reference.scheme != HUB:
        raise ModelLoadError(f"--export exports checkpoints of the Hub, not of {reference}")
    missing = [name for name in _NEEDED_BY_EXPORT if find_spec(name) is None]
    if missing:
        raise ModelLoadError(
            f"--export needs {', '.join(missing)}: install the extra train in a checkout "
            "(pip install -e '.[train]'), and run the command there"
        )
    command = [sys.executable, "-m", _EXPORTER, reference.location, "--revision", revision]
    try:
        done = subprocess.run(  # noqa: S603 - the parts are checked names
            [*command, "--to", str(folder)], check=False, timeout=_LONGEST_EXPORT
        )
    except subprocess.TimeoutExpired:
        raise ModelLoadError(f"the export of {reference} took too long") from None
    if done.returncode:
        raise ModelLoadError(f"the export of {reference} failed; its reason is above")
