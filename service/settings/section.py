"""What every section of the settings has in common."""

from pydantic import BaseModel, ConfigDict


class SettingsError(ValueError):
    """The configuration is invalid; the message names every wrong setting and the reason."""


class Section(BaseModel):
    """Settings that are read once, of which none is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)
