"""What every section of the settings has in common."""

from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


class SettingsError(ValueError):
    """The configuration is invalid; the message names every wrong setting and the reason."""


class Section(BaseModel):
    """Settings that are read once, of which none is unknown."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


def split(value: Any) -> Any:
    """Return the parts of a list `a,b`; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    return [part.strip() for part in value.split(",") if part.strip()]


def split_pairs(value: Any) -> Any:
    """Return the pairs of a mapping `a=1,b=2`; what is no text stays as it is."""
    if not isinstance(value, str):
        return value
    pairs = [part.partition("=") for part in split(value)]
    if any(not (key.strip() and given.strip()) for key, _, given in pairs):
        raise ValueError("must look like name=value,name=value")
    return {key.strip(): given.strip() for key, _, given in pairs}


Names: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(split)]
Words: TypeAlias = Annotated[Mapping[str, str], BeforeValidator(split_pairs)]
Numbers: TypeAlias = Annotated[
    Mapping[str, Annotated[int, Field(ge=1)]], BeforeValidator(split_pairs)
]
Count: TypeAlias = Annotated[int, Field(ge=1)]
Seconds: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
