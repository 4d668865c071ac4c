"""The runs that were made: each kept as its report in a file, and as rows where the database is within reach.

The files are what ``report`` and ``history`` read, so that both work while everything is down.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg
import orjson

from adapters.errors import DATABASE_AWAY
from crossfade.errors import UsageError
from crossfade.paths import read_json, unusable, write_json
from crossfade.plan import known_addresses, running_state
from crossfade.settings import plain_dsn
from embedded.errors import EmbeddedError
from embedded.postgres import Postgres

if TYPE_CHECKING:
    from crossfade.paths import DataDir
    from crossfade.settings import Settings

_NAME = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}\Z")
_DATABASE_SECONDS = 5.0
_MAX_RUNS = 500


@dataclass(frozen=True, slots=True)
class Kept:
    """A run that was kept, and why its rows could not be written, if so."""

    name: str
    problem: str | None


def keep(data: DataDir, report: Mapping[str, Any], now: datetime) -> str:
    """Keep a report as a file; return the run's name. The oldest of five hundred goes. Raises DataDirError."""
    name = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
    path = data.validation_runs / f"{name}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, {**report})
        for old in sorted(each for each in path.parent.iterdir() if _NAME.match(each.stem))[:-_MAX_RUNS]:
            old.unlink(missing_ok=True)
    except OSError as error:
        raise unusable(data.root, error) from error
    return name


def runs(data: DataDir) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the runs that were kept, the newest first."""
    if data.validation_runs.is_dir():
        for path in sorted(data.validation_runs.iterdir(), reverse=True):
            report = read_json(path) if _NAME.match(path.stem) else None
            if report is not None:
                yield path.stem, report


def report_of(data: DataDir, name: str) -> dict[str, Any]:
    """Return the report of a run; ``last`` is the newest. Raises UsageError."""
    for found, report in runs(data):
        if name in {found, "last"}:
            return report
    if name == "last":
        raise UsageError(f"there is no run in {data.validation_runs} yet; crossfade validate live makes one")
    raise UsageError(
        f"there is no run {name!r} in {data.validation_runs}; crossfade validate history lists them"
    )


async def write_rows(data: DataDir, settings: Settings, name: str, report: Mapping[str, Any]) -> str | None:
    """Write a run and its findings to the database; return why not, if not."""
    if settings.database_url is not None:
        dsn = plain_dsn(settings.database_url.get_secret_value())
    elif running_state(data) is None:
        return "nothing runs here"
    else:
        addresses = known_addresses(data, settings)
        dsn = Postgres(data.root, host=addresses.host, port=addresses.port_database).dsn()
    try:
        connection = await asyncpg.connect(dsn, timeout=_DATABASE_SECONDS)
        try:
            await connection.execute(
                "select public.cf_record_validation($1, $2)", name, orjson.dumps(report).decode(),
                timeout=_DATABASE_SECONDS,
            )  # fmt: skip
        finally:
            await connection.close(timeout=_DATABASE_SECONDS)
    except (*DATABASE_AWAY, EmbeddedError) as error:
        return " ".join(str(error).split()) or type(error).__name__
    return None
