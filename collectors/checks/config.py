"""What can be checked, and how a file says it: pure.

::

    checks:
      shop:
        http: https://shop.example.com/health
        every: 30s
        json: {status: ok}
      main-db:
        postgres: postgresql://monitor:${MONITOR_PASSWORD}@db.internal/app
      cache:
        redis: redis://cache.internal:6379/0

``${NAME}`` is the environment's, so that no secret has to be in the file.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from collectors.checks.document import Document, InvalidChecks, Place, read_document
from monitoring.errors import InvalidEvent
from monitoring.events import stream_id

_STEP = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")
_SHARE = 0.8
"""Uptime Kuma's rule: the time-out of a check is at most this share of its interval."""


def _seconds(value: object) -> object:
    if isinstance(value, str) and "".join(found[0] for found in _STEP.finditer(value)) == value:
        return sum(float(number) * _SECONDS[unit] for number, unit in _STEP.findall(value))
    raise ValueError("write a duration with its unit, for example 500ms, 30s, 5m or 1h")


def _url(*schemes: str) -> Callable[[object], object]:
    def check(value: object) -> object:
        if not isinstance(value, str):
            raise ValueError("write a URL")  # noqa: TRY004 - pydantic's protocol
        try:
            parts = urlsplit(value)
            known = parts.scheme in schemes and (parts.hostname or (parts.query and parts.path))
            _ = parts.port
        except ValueError:
            known = False
        if not known:
            raise ValueError(f"write a URL that begins with {' or '.join(f'{s}://' for s in schemes)}")
        return value

    return check


def _statuses(value: object) -> object:
    """Read 200, "2xx", "200-299", or a list of such."""
    found: list[tuple[int, int]] = []
    for entry in value if isinstance(value, list) else [value]:
        text = str(entry)
        if re.fullmatch(r"[1-5]xx", text):
            found.append((int(text[0]) * 100, int(text[0]) * 100 + 99))
        elif match := re.fullmatch(r"([1-5]\d\d)(?:-([1-5]\d\d))?", text):
            found.append((int(match[1]), int(match[2] or match[1])))
        else:
            raise ValueError(f"{text!r} is no status; write for example 200, 2xx or 200-299")
    return tuple(found)


Seconds = Annotated[float, Field(gt=0, le=86400 * 366), BeforeValidator(_seconds)]


class _Check(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    every: Annotated[Seconds, Field(ge=1, le=86400 * 7)] = 60.0
    timeout: Seconds = 10.0
    device: str | None = None
    """Whose check it is; the collecting machine's when None."""

    @property
    def timeout_seconds(self) -> float:
        """Return the time-out, which leaves room before the next reading is due."""
        return min(self.timeout, self.every * _SHARE)


class HttpCheck(_Check):
    """A URL that is asked; what is not met makes it down, ``slow`` and ``certificate`` degraded."""

    http: Annotated[str, BeforeValidator(_url("http", "https"))]
    method: Literal["GET", "HEAD", "POST", "OPTIONS"] = "GET"
    headers: dict[str, str] = {}
    body: str | None = None
    status: Annotated[tuple[tuple[int, int], ...], BeforeValidator(_statuses)] = ((200, 299),)
    contains: str | None = None
    lacks: str | None = None
    json_: dict[str, str | int | float | bool | None] = Field(default={}, alias="json")
    """Dotted path -> the value that has to be there."""
    redirects: Literal["follow", "refuse"] = "follow"
    slow: Seconds | None = None
    certificate: Seconds = 14 * 86400.0
    """Degraded when the certificate is valid for less."""
    ca_file: str | None = None

    @property
    def kind(self) -> str:
        """What is checked."""
        return "http"

    @property
    def target(self) -> str:
        """The URL as it may be shown."""
        return without_secrets(self.http)


class PostgresCheck(_Check):
    """A database that is asked how it is."""

    postgres: Annotated[str, BeforeValidator(_url("postgresql", "postgres"))]
    slow_queries: Annotated[int, Field(ge=0, le=50)] = 5
    """How many statements are told, the longest-running on average; 0 for none."""
    connections_percent: Annotated[float, Field(gt=0, le=100)] = 90.0
    """Degraded when more of the connections are in use."""
    replication_lag: Seconds = 60.0
    """Degraded when a replica is further behind."""
    slow: Seconds | None = None

    @property
    def kind(self) -> str:
        """What is checked."""
        return "postgres"

    @property
    def target(self) -> str:
        """The URL as it may be shown."""
        return without_secrets(self.postgres)


class RedisCheck(_Check):
    """A Redis, or what speaks as it does, that is asked how it is."""

    redis: Annotated[str, BeforeValidator(_url("redis", "rediss", "unix"))]
    memory_percent: Annotated[float, Field(gt=0, le=100)] = 90.0
    """Degraded when more of ``maxmemory`` is in use, where there is one."""
    slow: Seconds | None = None

    @property
    def kind(self) -> str:
        """What is checked."""
        return "redis"

    @property
    def target(self) -> str:
        """The URL as it may be shown."""
        return without_secrets(self.redis)


Check = HttpCheck | PostgresCheck | RedisCheck
_KINDS: Mapping[str, type[HttpCheck | PostgresCheck | RedisCheck]] = {
    "http": HttpCheck,
    "postgres": PostgresCheck,
    "redis": RedisCheck,
}


def load_checks(text: str, environment: Mapping[str, str]) -> dict[str, Check]:
    """Return the checks of a file by name, in its order; raises InvalidChecks with the line to blame."""
    document = read_document(text)
    if not isinstance(document.data, dict) or list(document.data) != ["checks"]:
        raise InvalidChecks("the file must have the key `checks` and no other", document.line(()))
    checks = document.data["checks"]
    if not isinstance(checks, dict):
        raise InvalidChecks(
            "checks must be names with what is checked under each", document.line(("checks",))
        )
    return {name: _check(name, value, document, environment) for name, value in checks.items()}


def _check(name: str, value: Any, document: Document, environment: Mapping[str, str]) -> Check:
    place: Place = ("checks", name)
    try:
        stream_id(name, "checks")
    except InvalidEvent:
        raise InvalidChecks(
            f"{name!r} is no name: 1-128 letters, digits or . _ : @ -, the first a letter or digit",
            document.line(place),
        ) from None
    if not isinstance(value, dict):
        raise InvalidChecks(
            f"{name} must have keys, one of them http, postgres or redis", document.line(place)
        )
    kinds = [kind for kind in _KINDS if kind in value]
    if len(kinds) != 1:
        raise InvalidChecks(f"{name} needs exactly one of http, postgres and redis", document.line(place))
    filled = _filled(value, place, document, environment)
    try:
        check = _KINDS[kinds[0]].model_validate(filled)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        found = tuple(part for part in first["loc"] if isinstance(part, str | int))
        reason = first["msg"].removeprefix("Value error, ")
        if first["type"] == "extra_forbidden":
            known = sorted(field.alias or key for key, field in _KINDS[kinds[0]].model_fields.items())
            reason = f"there is no such key; there are {', '.join(known)}"
        where = ".".join(str(part) for part in (name, *found))
        raise InvalidChecks(f"{where}: {reason}", document.line((*place, *found))) from None
    if check.device is not None:
        try:
            stream_id(check.device, "checks")
        except InvalidEvent as error:
            raise InvalidChecks(f"{name}.device: {error.reason}", document.line((*place, "device"))) from None
    return check


def _filled(value: Any, place: Place, document: Document, environment: Mapping[str, str]) -> Any:
    """Put the environment's values in the place of their names."""
    match value:
        case dict():
            return {key: _filled(each, (*place, key), document, environment) for key, each in value.items()}
        case list():
            return [_filled(each, (*place, i), document, environment) for i, each in enumerate(value)]
        case str():

            def found(match: re.Match[str]) -> str:
                if match[1] not in environment:
                    raise InvalidChecks(
                        f"the environment has no {match[1]}; set it where the collector is started",
                        document.line(place),
                    )
                return environment[match[1]]

            return _VARIABLE.sub(found, value)
        case _:
            return value


def without_secrets(url: str) -> str:
    """Return a URL without its password and query: what may be shown to everybody who watches."""
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{user}{host}{parts.path}"
