"""Where an application's events go: what opens the `Intake` that keeps them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.http_intake import HttpIntake
from crossfade.errors import NotRunning, UsageError
from crossfade.pushing.worker import OpenIntake
from monitoring.intake import Intake

# What only some places need is imported there: an application that pushes to another machine should not wait at its
# start for the drivers of databases.
if TYPE_CHECKING:
    from crossfade.wiring import UserToken, Wiring

_SUBJECT = "push"


def place(
    where: str | Path | None,
    token: str | Callable[[], str] | None,
    spool: Path | None,
    database_url: str | None,
    legacy_url: str | None,
    legacy_token: str,
) -> OpenIntake:
    """Return what opens the intake that `crossfade.push.application` describes; raises UsageError."""
    elsewhere = isinstance(where, str) and where.startswith(("http://", "https://"))
    if spool is None and (database_url or legacy_url):
        raise UsageError("database_url and legacy_url are for a spool: application(..., spool=PATH)")
    if spool is not None and (elsewhere or token is not None):
        raise UsageError(
            "a spool goes to a database, not to a query service: give database_url, not an address and a token"
        )
    if elsewhere:
        if not token:
            raise UsageError(f"{where} needs a token: crossfade token NAME --role operator makes one there")
        url, given = str(where).rstrip("/"), token
        return _by_http(lambda: (url, given if isinstance(given, str) else given()))
    if token is not None:
        raise UsageError(
            "a token is for the address of a query service: application(NAME, 'http://HOST:8000', token=...)"
        )
    from crossfade.wiring import here  # noqa: PLC0415 - see above

    wiring = here(Path(where) if where is not None else None)
    if spool is None:
        return _by_http(_QueryHere(wiring))

    @asynccontextmanager
    async def spooled() -> AsyncIterator[Intake]:
        from adapters.event_intake import EventIntake  # noqa: PLC0415 - see above

        database, legacy, secret = (
            (database_url, legacy_url, legacy_token) if database_url else _paths_here(wiring)
        )
        async with EventIntake(
            spool, database_url=database, legacy_url=legacy, legacy_token=lambda: secret
        ) as intake:
            yield intake

    return spooled


def _by_http(where: Callable[[], tuple[str, str]]) -> OpenIntake:
    return lambda: HttpIntake(where)


class _QueryHere:
    """The query service of an installation on this machine, and a token for it."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._token: UserToken | None = None

    def __call__(self) -> tuple[str, str]:
        """Return the service's URL of now and a valid token; raises CrossfadeError while there is none."""
        from crossfade.plan import known_addresses  # noqa: PLC0415 - see above
        from crossfade.wiring import Role, UserToken, embedded_keys  # noqa: PLC0415 - see above

        settings = self._wiring.settings
        url = known_addresses(self._wiring.data, settings).query
        if settings.hosted:
            key = settings.access_token or settings.supabase_key
            return url, key.get_secret_value() if key else ""
        if self._token is None:
            secret = embedded_keys(self._wiring.data).jwt_secret
            self._token = UserToken(secret, _SUBJECT, Role.OPERATOR)
        return url, self._token()


def _paths_here(wiring: Wiring) -> tuple[str, str | None, str]:
    """Return database, legacy server and the link's secret of what runs here; raises CrossfadeError or LegacyError."""
    from crossfade.plan import known_addresses, running_state  # noqa: PLC0415 - see above
    from embedded.postgres import Postgres  # noqa: PLC0415 - see above
    from legacy_ws.token_file import read_token  # noqa: PLC0415 - see above

    settings, data = wiring.settings, wiring.data
    state = running_state(data)
    if state is None:
        raise NotRunning(f"nothing runs on {data.root}; run crossfade up, or give database_url")
    addresses = known_addresses(data, settings)
    database = (
        settings.database_url.get_secret_value()
        if settings.database_url
        else Postgres(data.root, host=addresses.host, port=addresses.port_database).dsn()
    )
    if not any(part.get("name") == "legacy" for part in state.get("parts", [])):
        return database, None, ""
    return database, addresses.legacy_link, read_token(data.link_token)
