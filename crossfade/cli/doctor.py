"""``crossfade doctor``: what stands in the way here, and what to do about it."""

from __future__ import annotations

import asyncio
import logging
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import docker
import typer
from docker.errors import DockerException
from rich.console import Console

from collectors.docker_connection import reason_of
from crossfade import logs, packaged
from crossfade.addresses import require_free
from crossfade.alert_rules import document
from crossfade.checks import Check, ask_hosted, check_channels, check_flags, check_foreign, check_parts
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.cli.status import table
from crossfade.errors import CrossfadeError
from crossfade.foreign import foreign_server
from crossfade.hosted.proving import follow, look
from crossfade.paths import unusable
from crossfade.plan import PARTS, alerts_file, flags_file, known_addresses, running_state
from crossfade.wiring import open_flags
from embedded.errors import EmbeddedError
from embedded.postgres_install import find_install

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from crossfade.paths import DataDir
    from crossfade.settings import Settings

_ENOUGH_BYTES = 1 << 30
_DOCKER_SECONDS = 3


def doctor(data_dir: DataDirOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Look at ports, database, Docker, disk, flags and alerts, and say what to do; exit 1 when something is in the way."""
    wired = wiring(data_dir)
    logs.to_stderr(logging.ERROR)  # what matters of a connection is a check's detail
    checks = list(_examine(wired.data, wired.settings))
    good = all(check.ok or check.note for check in checks)
    if format_ is Format.JSON:
        print_json({"good": good, "checks": [check.to_json() for check in checks]})
    else:
        Console().print(table(checks))
    raise typer.Exit(0 if good else 1)


def _examine(data: DataDir, settings: Settings) -> Iterator[Check]:
    yield _directory(data)
    yield _disk(data.root)
    if running_state(data) is not None:
        yield from asyncio.run(check_parts(data, settings))
    else:
        yield from _ports(data, settings)
        yield from _foreign(settings)
        yield _flags(data, settings)
        yield from _database(settings)
    yield _channels(data, settings)
    yield _docker()


def _existing(path: Path) -> Path:
    """Return the nearest directory that exists at or above a path."""
    return next(place for place in (path, *path.parents) if place.exists())


def _directory(data: DataDir) -> Check:
    place = _existing(data.root)
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        problem = unusable(data.root, error)
        return Check(
            "data directory",
            ok=False,
            detail=problem.reason,
            address=str(data.root),
            advice="choose another with --data-dir",
        )
    detail = "writable" if data.root.exists() else f"will be made by crossfade up{data.option}"
    return Check("data directory", ok=True, detail=detail, address=str(data.root))


def _disk(path: Path) -> Check:
    free = shutil.disk_usage(_existing(path)).free
    return Check(
        "disk",
        ok=free >= _ENOUGH_BYTES,
        detail=f"{free / (1 << 30):.1f} GiB free",
        advice="free some space: 1 GiB is wanted, or choose another --data-dir",
    )


def _ports(data: DataDir, settings: Settings) -> Iterator[Check]:
    for listener in known_addresses(data, settings).listeners(PARTS):
        if settings.hosted and listener.part in {"realtime", "postgres"}:
            continue
        if settings.legacy_url is not None and listener.part.startswith("legacy"):
            continue
        try:
            require_free(listener)
        except CrossfadeError as error:
            advice = f"choose another with {listener.option}"
            yield Check(
                f"port of {listener.part}",
                ok=False,
                detail=str(error),
                address=listener.address,
                advice=advice,
            )
        else:
            yield Check(f"port of {listener.part}", ok=True, detail="free", address=listener.address)


def _foreign(settings: Settings) -> Iterator[Check]:
    foreign = foreign_server(settings)
    if foreign is None:
        return
    try:
        foreign.load()
    except CrossfadeError as error:
        yield Check("legacy", ok=False, detail=str(error), address=foreign.shown)
    else:
        yield asyncio.run(check_foreign(foreign))


def _flags(data: DataDir, settings: Settings) -> Check:
    path = flags_file(data, settings)
    if not path.exists() and path.parent == data.root:
        return Check("flags", ok=True, detail=f"will be made by crossfade up{data.option}", address=str(path))
    return check_flags(open_flags(data, path, settings.switches))


def _channels(data: DataDir, settings: Settings) -> Check:
    path = alerts_file(data, settings)
    if (
        not path.exists() and path.parent == data.root
    ):  # crossfade up makes it of the one that comes with Crossfade
        return check_channels({"file": str(path), "problem": None, "channels": []})
    return check_channels(document(data, settings))


def _database(settings: Settings) -> Iterator[Check]:
    if not settings.hosted:
        try:
            detail = f"embedded, PostgreSQL {find_install().major}"
        except EmbeddedError as error:
            yield Check("database", ok=False, detail=str(error), advice="run make setup again")
            return
        yield Check("database", ok=True, detail=detail)
        yield Check("migrations", ok=True, detail=str(packaged.migrations()))
        return
    try:
        settings.require_complete()
    except CrossfadeError as error:
        yield Check("settings", ok=False, detail=str(error))
        return
    try:
        yield from asyncio.run(look(settings))
    except CrossfadeError as error:
        yield Check("database", ok=False, detail=str(error))
    answers = asyncio.run(_asked("supabase", ask_hosted(settings)))
    yield answers
    if answers.ok:  # else it would take half a minute to say the same again
        yield asyncio.run(_asked("realtime", follow(settings)))


async def _asked(name: str, question: Awaitable[str]) -> Check:
    try:
        return Check(name, ok=True, detail=await question)
    except Exception as error:  # noqa: BLE001 - drivers raise what they like; each failure is a finding
        reason = " ".join(str(error).split()) or type(error).__name__
        return Check(name, ok=False, detail=reason, advice="check SUPABASE_URL and SUPABASE_KEY")


def _docker() -> Check:
    try:
        client = docker.from_env(timeout=_DOCKER_SECONDS)
        try:
            version = client.version().get("Version", "?")
        finally:
            client.close()
    except (DockerException, OSError) as error:
        reason = reason_of(error)
        advice = (
            "without it containers are not watched, everything else works; start Docker or use --no-docker"
        )
        return Check("docker", ok=False, detail=f"does not answer: {reason}", advice=advice, note=True)
    return Check("docker", ok=True, detail=f"version {version}")
