"""Settings of access: keys of clients, and the administrator's token."""

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from service.settings.section import Section, SettingsError


class AccessSettings(Section):
    """Keys of clients and their limits; see `docs/access.md`."""

    keys_file: Path | None = Field(
        None,
        description="TOML file of the keys, read again when it changes; unset asks for no key.",
    )


class AdminSettings(Section):
    """Loading and unloading models over HTTP; disabled while no token is set."""

    token: SecretStr | None = Field(None, description="Bearer token of administrators.")
    token_file: Path | None = Field(
        None, description="File that holds the token, instead of `token`."
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if self.token is not None and self.token_file is not None:
            raise ValueError("token and token_file exclude each other")
        return self

    def read_token(self) -> str | None:
        """Return the token, read from its file if that is set; None without a token.

        Raises:
            SettingsError: the file cannot be read or is empty.
        """
        if self.token_file is None:
            return None if self.token is None else self.token.get_secret_value()
        try:
            token = self.token_file.read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            raise SettingsError(f"admin.token_file cannot be read: {error}") from None
        if not token:
            raise SettingsError(f"admin.token_file: {self.token_file} is empty")
        return token
