"""Reads settings from the environment and the command line, and writes their documentation."""

import re
from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, TypeAlias, get_args

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from service.repository.tables import Place, did_you_mean, dotted, sentences
from service.settings.section import SettingsError
from service.settings.sections import Settings

PREFIX: Final = "QUARTET_"

_SERVICE_LINK = re.compile(
    rf"{PREFIX}([A-Z0-9]+_)*"
    r"(SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
"""Variables that Kubernetes sets in every pod for a service whose name begins with quartet."""


_PAGE_HEAD = """# Settings

`.venv/bin/python -m service settings` generates this page; a test keeps it up to date.

Settings come from the environment or the command line, which takes precedence:

```sh
QUARTET_SERVER__PORT=9000 .venv/bin/python -m service serve
.venv/bin/python -m service serve --server.port 9000
```

A list is `a,b`, a mapping is `a=1,b=2`, a switch is `true` or `false` (`--cache.enabled` alone
is `true`). An empty value means unset. Unknown names are refused at start, with the closest known
name. Secrets are read from the environment only."""

_TABLE_HEAD = (
    "| environment | command line | default | meaning |",
    "| --- | --- | --- | --- |",
)


class SettingRow(NamedTuple):
    """One setting, as listed in the documentation."""

    environment: str
    option: str
    """Empty for a secret: a command line shows in the list of processes."""
    default: str
    description: str


def settings_table() -> list[SettingRow]:
    """Return every setting, section by section."""
    return [
        SettingRow(
            _environment_name(section, name),
            "" if _is_secret(field) else _option_name(section, name),
            _shown(field.default),
            field.description or "",
        )
        for section, name, field in _fields()
    ]


def settings_page() -> str:
    """Return the table of all settings as Markdown, for `docs/settings.md`."""
    lines = [_PAGE_HEAD]
    rows = {row.environment: row for row in settings_table()}
    for section, model in _sections():
        lines += [f"\n## {section}\n\n{model.__doc__}\n", *_TABLE_HEAD]
        for name in model.model_fields:
            row = rows[_environment_name(section, name)]
            option = f"`{row.option}`" if row.option else "environment only"
            cells = (f"`{row.environment}`", option, f"`{row.default}`", row.description)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def split_options(
    arguments: Sequence[str], others: Collection[str] = ()
) -> tuple[dict[str, str], list[str]]:
    """Take the settings out of a command line.

    A setting is `--section.field value` or `--section.field=value`; "-" and "_" may stand for
    the dot and for one another. A switch may go without its value.

    Args:
        arguments: the command line.
        others: options that are no settings.

    Returns:
        The values by `section.field`, and the arguments that are left.

    Raises:
        SettingsError: an option is no setting, or has no value.
    """
    given: dict[str, str] = {}
    left: list[str] = []
    waiting = deque(arguments)
    while waiting:
        argument = waiting.popleft()
        option, equals, value = argument.partition("=")
        if option.startswith("--") and option not in ("--help", *others):
            name, field = _setting_of(option)
            given[name] = value if equals else _value_of(option, field, waiting)
        else:
            left.append(argument)
    return given, left


def read_settings(environ: Mapping[str, str], options: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of an environment and of a command line, which wins.

    An empty value is as good as none.

    Args:
        environ: all variables; those that do not begin with `QUARTET_` are not looked at.
        options: as `split_options` returns them.

    Raises:
        SettingsError: a variable is no setting, or a value is not what it must be.
    """
    given = _from_environment(environ)
    for name, value in (options or {}).items():
        section, _, field = name.partition(".")
        given[section, field] = (_option_name(section, field), value)
    tree: dict[str, dict[str, str]] = {}
    for (section, field), (_, value) in given.items():
        if value:
            tree.setdefault(section, {})[field] = value

    def name_of(place: Place) -> str:
        # By the name under which it was set, so that it can be found.
        setting, inside = tuple(map(str, place[:2])), dotted(place[2:])
        origin = given[setting][0] if setting in given else dotted(setting)
        return f"{origin} {inside}".rstrip()

    try:
        return Settings.model_validate(tree)
    except ValidationError as error:
        raise SettingsError("; ".join(sentences(error, name_of))) from None


_Given: TypeAlias = dict[tuple[str, ...], tuple[str, str]]
"""(section, field) -> (name under which it was set, value)."""


def _from_environment(environ: Mapping[str, str]) -> _Given:
    known = {_environment_name(section, name): (section, name) for section, name, _ in _fields()}
    given: _Given = {}
    unknown = []
    for variable, value in sorted(environ.items()):
        if variable in known:
            given[known[variable]] = (variable, value)
        elif variable.upper().startswith(PREFIX) and not _is_service_link(variable, value):
            unknown.append(f"{variable} is no setting{did_you_mean(variable, known)}")
    if unknown:
        raise SettingsError("; ".join(unknown))
    return given


def _is_service_link(variable: str, value: str) -> bool:
    if _SERVICE_LINK.fullmatch(variable):
        return True
    return variable.endswith("_PORT") and "://" in value


def _setting_of(option: str) -> tuple[str, FieldInfo]:
    known = {
        _plain(_option_name(section, name)): (section, name, field)
        for section, name, field in _fields()
    }
    found = known.get(_plain(option))
    if found is None:
        names = [
            _option_name(section, name)
            for section, name, field in known.values()
            if not _is_secret(field)
        ]
        raise SettingsError(f"{option} is no setting{did_you_mean(option, names)}")
    section, name, field = found
    if _is_secret(field):
        raise SettingsError(
            f"{option} would show in the list of processes; set {_environment_name(section, name)}"
        )
    return f"{section}.{name}", field


def _value_of(option: str, field: FieldInfo, waiting: deque[str]) -> str:
    if field.annotation is bool:
        says = waiting and waiting[0] in ("true", "false")
        return waiting.popleft() if says else "true"
    if not waiting or waiting[0].startswith("--"):
        raise SettingsError(f"{option} needs a value")
    return waiting.popleft()


def _sections() -> Iterator[tuple[str, type[BaseModel]]]:
    for section, field in Settings.model_fields.items():
        yield section, type(field.default)


def _fields() -> Iterator[tuple[str, str, FieldInfo]]:
    for section, model in _sections():
        for name, field in model.model_fields.items():
            yield section, name, field


def _environment_name(section: str, name: str) -> str:
    return f"{PREFIX}{section.upper()}__{name.upper()}"


def _option_name(section: str, name: str) -> str:
    return f"--{section}.{name.replace('_', '-')}"


def _plain(option: str) -> str:
    return option.replace(".", "-").replace("_", "-")


def _is_secret(field: FieldInfo) -> bool:
    return SecretStr in get_args(field.annotation)


def _shown(default: Any) -> str:
    match default:
        case None | () | {}:
            return "unset"
        case bool():
            return str(default).lower()
        case _:
            return str(default)
