"""All configuration of the process, read once. Only app.py and __main__.py use it.

Every field can be set by the environment, `QUARTET_<SECTION>__<FIELD>`, and on the command
line, `--section.field`, which wins. A name that is no setting is refused, never ignored.
"""

from service.settings.access import AccessSettings, AdminSettings
from service.settings.models import ModelSettings
from service.settings.section import SettingsError
from service.settings.sections import (
    BatchingSettings,
    CacheSettings,
    LimitSettings,
    LogSettings,
    ServerSettings,
    Settings,
    StreamSettings,
    TraceSettings,
)
from service.settings.sources import read_settings, settings_page, settings_table, split_options

__all__ = [
    "AccessSettings",
    "AdminSettings",
    "BatchingSettings",
    "CacheSettings",
    "LimitSettings",
    "LogSettings",
    "ModelSettings",
    "ServerSettings",
    "Settings",
    "SettingsError",
    "StreamSettings",
    "TraceSettings",
    "read_settings",
    "settings_page",
    "settings_table",
    "split_options",
]
