"""Settings: the environment and a ``.env`` file, read once.

Every variable is optional. ``SUPABASE_URL``, ``SUPABASE_KEY`` and ``DATABASE_URL`` together switch from the embedded
Supabase to a hosted one; options of the command line win over all of it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import AliasChoices, BeforeValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from crossfade.errors import UsageError
from crossfade.paths import DEFAULT
from crossfade.retention import parse_keep
from crossfade.tls import parse_ports
from legacy_ws.errors import InvalidMount
from legacy_ws.mounts import parse_mounts
from legacy_ws.protocol.catalogue import catalogue
from monitoring.flags.model import SWITCHES

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


def _socket_url(url: str) -> str:
    """Return a WebSocket's URL; raises ValueError."""
    plain = url.strip()
    parts = urlsplit(plain)
    if parts.scheme not in {"ws", "wss"} or not parts.hostname:
        raise ValueError("it must look like ws://HOST:PORT/PATH or wss://HOST/PATH")
    return plain


def _unless_empty(value: object) -> object:
    """Read an empty variable as an absent one, as ``KEY=`` in a .env file is meant."""
    return None if isinstance(value, str) and not value.strip() else value


def _mounts(value: object) -> object:
    """Check the mounts of the legacy server or the gateway; raises ValueError."""
    if isinstance(value, str):
        try:
            parse_mounts(value, catalogue())
        except InvalidMount as error:
            raise ValueError(str(error)) from error
    return value


def _tls_ports(value: object) -> object:
    """Check where services speak TLS; raises ValueError."""
    if isinstance(value, str):
        parse_ports(value)
    return value


def _dsn(value: object) -> object:
    present = _unless_empty(value)
    return SecretStr(plain_dsn(present)) if isinstance(present, str) else present


def _url(value: object) -> object:
    present = _unless_empty(value)
    return _web_url(present) if isinstance(present, str) else present


def _socket(value: object) -> object:
    present = _unless_empty(value)
    return _socket_url(present) if isinstance(present, str) else present


def _keep(value: object) -> object:
    """Check how long history is kept; raises ValueError."""
    present = _unless_empty(value)
    if isinstance(present, str):
        parse_keep(present)
    return present


Port = Annotated[int, Field(ge=0, le=65535)]
Interval = Annotated[float, Field(ge=1, le=86400)]
"""Seconds between two readings of a device."""
PerSecond = Annotated[float, Field(ge=0, le=100_000)]
"""Requests a second; 0 for no limit."""
Switch = Annotated[bool | None, BeforeValidator(_unless_empty)]


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
    realtime_mode: Annotated[Literal["changes", "broadcast"] | None, BeforeValidator(_unless_empty)] = None
    heartbeat_seconds: Annotated[
        Annotated[float, Field(ge=0.5, le=300)] | None, BeforeValidator(_unless_empty)
    ] = None
    keep: Annotated[str | None, BeforeValidator(_keep)] = None
    storage_limit_bytes: Annotated[
        Annotated[int, Field(ge=50_000_000)] | None, BeforeValidator(_unless_empty)
    ] = None
    jwt_secret: Annotated[SecretStr | None, BeforeValidator(_unless_empty)] = Field(
        default=None, validation_alias=AliasChoices("SUPABASE_JWT_SECRET")
    )
    access_token: Annotated[SecretStr | None, BeforeValidator(_unless_empty)] = None
    data_dir: Path = DEFAULT
    host: str = "127.0.0.1"
    port_supabase: Port = 54321
    port_database: Port = 54322
    port_query: Port = 8000
    port_legacy: Port = 8001
    port_control: Port = 8002
    port_dashboard: Port = 8003
    port_analytics: Port = 8004
    port_mcp: Port = 9102
    with_parts: str = Field(default="", validation_alias=AliasChoices("CROSSFADE_WITH"))
    cors_origins: str = ""
    rate_limit: PerSecond = 300.0
    rate_limit_control: PerSecond = 50.0
    tls_cert: Annotated[Path | None, BeforeValidator(_unless_empty)] = None
    tls_key: Annotated[Path | None, BeforeValidator(_unless_empty)] = None
    tls_host: str = ""
    tls_ports: Annotated[str, BeforeValidator(_tls_ports)] = ""
    legacy_url: Annotated[str | None, BeforeValidator(_socket)] = None
    legacy_dialect: str = "plain-dashboard"
    legacy_mounts: Annotated[str, BeforeValidator(_mounts)] = ""
    legacy_container_prefix: str = ""
    gateway_mounts: Annotated[str, BeforeValidator(_mounts)] = ""
    log_format: Literal["pretty", "json"] = "pretty"
    flags: Path = Path("flags.yaml")
    checks: Annotated[Path | None, BeforeValidator(_unless_empty)] = None
    polling_enabled: bool = Field(default=True, validation_alias=AliasChoices("POLLING_ENABLED"))
    polling_container_interval: Interval = Field(
        default=30.0, validation_alias=AliasChoices("POLLING_CONTAINER_INTERVAL")
    )
    polling_system_metrics_interval: Interval = Field(
        default=300.0, validation_alias=AliasChoices("POLLING_SYSTEM_METRICS_INTERVAL")
    )
    polling_drive_health_interval: Interval = Field(
        default=3600.0, validation_alias=AliasChoices("POLLING_DRIVE_HEALTH_INTERVAL")
    )
    polling_watched_interval: Interval = Field(
        default=10.0, validation_alias=AliasChoices("POLLING_WATCHED_INTERVAL")
    )
    polling_max_concurrent_devices: Annotated[int, Field(ge=1, le=1000)] = Field(
        default=10, validation_alias=AliasChoices("POLLING_MAX_CONCURRENT_DEVICES")
    )
    alerts: Path = Path("alerts.yaml")
    move_spread_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.0
    plan: Literal["free", "pro", "team", "own"] = "own"
    rollout_block_seconds: Annotated[float, Field(ge=0.5, le=600)] = 10.0
    websocket_enabled: Switch = Field(default=None, validation_alias=AliasChoices("WEBSOCKET_ENABLED"))
    websocket_container_stats: Switch = Field(
        default=None, validation_alias=AliasChoices("WEBSOCKET_CONTAINER_STATS")
    )
    websocket_session_events: Switch = Field(
        default=None, validation_alias=AliasChoices("WEBSOCKET_SESSION_EVENTS")
    )
    websocket_system_alerts: Switch = Field(
        default=None, validation_alias=AliasChoices("WEBSOCKET_SYSTEM_ALERTS")
    )

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins whose pages may call the services."""
        return tuple(origin for text in self.cors_origins.split(",") if (origin := text.strip()))

    @property
    def switches(self) -> Mapping[str, bool]:
        """The switches of the flag file that the environment decides."""
        return {name: on for name in SWITCHES if (on := getattr(self, name)) is not None}

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


def load_settings(**given: str) -> Settings:
    """Read the environment and ``.env``; raises UsageError that names the variable and never shows its value.

    ``given`` are variables that somebody typed, by their names; they win.
    """
    try:
        return Settings(**given)  # type: ignore[arg-type]  # read as the environment's are
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        name = str(first["loc"][0]) if first["loc"] else "a setting"
        variable = name if name.isupper() else f"CROSSFADE_{name.upper()}"
        reason = first["msg"].removeprefix("Value error, ")
        raise UsageError(f"{variable}: {reason}; correct it in the environment or in .env") from None
    except UnicodeDecodeError:
        raise UsageError(".env is not UTF-8 text; save it as UTF-8 or remove it") from None
