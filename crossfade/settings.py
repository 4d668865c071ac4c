"""Settings: the environment and a ``.env`` file, read once.

Every variable is optional. ``SUPABASE_URL``, ``SUPABASE_KEY`` and ``DATABASE_URL`` together switch from the embedded
Supabase to a hosted one; options of the command line win over all of it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from crossfade.errors import UsageError
from crossfade.paths import DEFAULT

_DRIVER = re.compile(r"\Apostgres(?:ql)?\+[a-z0-9]+://")
_HOSTED = {"SUPABASE_URL": "supabase_url", "SUPABASE_KEY": "supabase_key", "DATABASE_URL": "database_url"}


def plain_dsn(url: str) -> str:
    """Return a database URL as PostgreSQL's own drivers read it: SQLAlchemy's ``postgresql+driver://`` loses its driver.

    Raises ValueError when it is no PostgreSQL URL.
    """
    plain = _DRIVER.sub("postgresql://", url.strip())
    if urlsplit(plain).scheme not in {"postgresql", "postgres"}:
        raise ValueError("it must begin with postgresql:// or postgresql+asyncpg://")
    return plain


def _web_url(url: str) -> str:
    """Return an http(s) URL without a closing slash; raises ValueError."""
    plain = url.strip().rstrip("/")
    parts = urlsplit(plain)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("it must look like https://PROJECT.supabase.co")
    return plain


def _unless_empty(value: object) -> object:
    """Read an empty variable as an absent one, as ``KEY=`` in a .env file is meant."""
    return None if isinstance(value, str) and not value.strip() else value


def _dsn(value: object) -> object:
    present = _unless_empty(value)
    return SecretStr(plain_dsn(present)) if isinstance(present, str) else present


def _url(value: object) -> object:
    present = _unless_empty(value)
    return _web_url(present) if isinstance(present, str) else present


Port = Annotated[int, Field(ge=0, le=65535)]


class Settings(BaseSettings):
    """What the environment says. Ports of 0 are chosen by the system."""

    model_config = SettingsConfigDict(
        env_file=".env", env_prefix="CROSSFADE_", extra="ignore", frozen=True, populate_by_name=True
    )

    supabase_url: Annotated[str | None, BeforeValidator(_url)] = Field(
        default=None, validation_alias=AliasChoices("SUPABASE_URL")
    )
    supabase_key: Annotated[SecretStr | None, BeforeValidator(_unless_empty)] = Field(
        default=None, validation_alias=AliasChoices("SUPABASE_KEY")
    )
    database_url: Annotated[SecretStr | None, BeforeValidator(_dsn)] = Field(
        default=None, validation_alias=AliasChoices("DATABASE_URL")
    )
    access_token: Annotated[SecretStr | None, BeforeValidator(_unless_empty)] = None
    data_dir: Path = DEFAULT
    host: str = "127.0.0.1"
    port_supabase: Port = 54321
    port_database: Port = 54322
    port_legacy: Port = 8001
    port_dashboard: Port = 8003
    flags: Path = Path("flags.yaml")

    @property
    def hosted(self) -> bool:
        """Whether a Supabase elsewhere is used, not the embedded one."""
        return self.supabase_url is not None

    def require_complete(self) -> None:
        """Raise UsageError when only some of the variables of a hosted Supabase are set."""
        missing = [name for name, field in _HOSTED.items() if getattr(self, field) is None]
        if missing and len(missing) < len(_HOSTED):
            present = [name for name in _HOSTED if name not in missing]
            raise UsageError(
                f"{' and '.join(present)} set, {' and '.join(missing)} not: a hosted Supabase needs all three, the "
                "embedded one none; set or unset them (environment, .env)"
            )


def load_settings() -> Settings:
    """Read the environment and ``.env``; raises UsageError that names the variable and never shows its value."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "a setting"
        variable = name if name.isupper() else f"CROSSFADE_{name.upper()}"
        reason = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{variable}: {reason}; correct it in the environment or in .env") from None
    except UnicodeDecodeError:
        raise UsageError(".env is not UTF-8 text; save it as UTF-8 or remove it") from None
