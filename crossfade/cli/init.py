"""``crossfade init`` and ``crossfade uninit``: moving into a Supabase project, and out of it again."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crossfade import logs
from crossfade.checks import ask_hosted
from crossfade.cli.status import table
from crossfade.errors import CrossfadeError, UsageError
from crossfade.hosted import env_file, facts, installing, judging, removing, users
from crossfade.hosted.proving import follow
from crossfade.settings import Settings, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.hosted.facts import Facts
    from embedded.migrations import Migration

_ASKED = (
    ("supabase_url", "SUPABASE_URL", "The project's URL, https://PROJECT.supabase.co", False),
    ("supabase_key", "SUPABASE_KEY", "Its secret (or service_role) key", True),
    ("database_url", "DATABASE_URL", "Its database, postgresql://postgres:PASSWORD@HOST:5432/postgres", True),
)
_OWN = ("SUPABASE_URL", "SUPABASE_KEY", "DATABASE_URL", "SUPABASE_JWT_SECRET", "CROSSFADE_ACCESS_TOKEN")
"""What `uninit` takes out of the .env file."""

EnvFileOption = Annotated[Path, typer.Option("--env-file", metavar="FILE", help="The .env file to keep up.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


def init(
    user: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=EMAIL", help="Make a user with a role: viewer, operator or admin; repeat for more."
        ),
    ] = None,
    env: EnvFileOption = Path(".env"),
    no_env: Annotated[bool, typer.Option("--no-env", help="Write no .env file.")] = False,
    dry_run: DryRunOption = False,
    yes: YesOption = False,
) -> None:
    """Install Crossfade in a Supabase project, hosted or self-hosted: look, say what will be done, do it, prove it.

    SUPABASE_URL, SUPABASE_KEY (the secret key) and DATABASE_URL are taken from the environment or .env, and asked for when
    they are not there. Safe to run again: what is there is left alone.
    """
    logs.to_stderr(logging.ERROR)
    people = [users.parse(text) for text in user or ()]
    settings = _complete(ask=not yes and sys.stdin.isatty())
    asyncio.run(_init(settings, people, None if no_env else env, dry_run=dry_run, yes=yes))


def uninit(
    env: EnvFileOption = Path(".env"),
    dry_run: DryRunOption = False,
    yes: YesOption = False,
    force: Annotated[bool, typer.Option("--force", help="Also while a collector still writes.")] = False,
) -> None:
    """Take Crossfade out of a Supabase project: its tables with all they hold, its functions, policies and users.

    Nothing of anybody else's is touched; when something of theirs depends on ours, nothing is removed at all.
    """
    logs.to_stderr(logging.ERROR)
    settings = _complete(ask=not yes and sys.stdin.isatty())
    asyncio.run(_uninit(settings, env, dry_run=dry_run, yes=yes, force=force))


def _complete(*, ask: bool) -> Settings:
    """Return the settings with all that a project needs; raises UsageError that names what is missing."""
    settings = load_settings()
    if missing := [each for each in _ASKED if getattr(settings, each[0]) is None]:
        if not ask:
            names = ", ".join(name for _, name, _, _ in missing)
            raise UsageError(
                f"{names} not set: put them into the environment or into .env, or run this at a terminal to be asked"
            )
        given = {
            name: typer.prompt(f"{what} ({name})", hide_input=secret) for _, name, what, secret in missing
        }
        settings = load_settings(**given)
    return settings


async def _init(
    settings: Settings, people: Sequence[users.Wanted], env: Path | None, *, dry_run: bool, yes: bool
) -> None:
    url = _dsn(settings)
    async with facts.connected(url) as connection:
        found = await facts.find(connection, url)
        checks = judging.judge(found)
        Console().print(table(checks))
        if not all(check.ok for check in checks):
            raise CrossfadeError(
                "nothing was changed: correct what is BAD above and run crossfade init again"
            )
        ours = installing.ours()
        if judging.unrecorded(found, ours):
            raise CrossfadeError(
                "nothing was changed: Crossfade's tables are there without a record of their migrations, so their version is "
                "not known; crossfade uninit removes them, or record them with supabase migration repair"
            )
        pending = judging.pending(found, ours)
        _say_plan(found, pending, people, env)
        if dry_run:
            return
        if (pending or people) and not yes and not typer.confirm("Do it?"):
            raise typer.Exit(1)
        for name in await installing.install(connection):
            typer.echo(f"applied {name}")
        typer.echo(f"proved: {await installing.prove(connection)}")
    await _prove_from_outside(settings)
    for person in await users.add(settings.supabase_url or "", _key(settings), people):
        what = (
            f"password {person.password}  (shown only now)"
            if person.password
            else "was there; has the role now"
        )
        typer.echo(f"{person.role} {person.email}: {what}")
    if env is not None and (changed := env_file.write(env, _variables(settings))):
        typer.echo(f"wrote {', '.join(changed)} to {env}")
    typer.echo("ready: start it with crossfade up, and look with crossfade doctor")


async def _prove_from_outside(settings: Settings) -> None:
    """Ask as clients do: by REST, and over Realtime."""
    for name, ask in (("REST", ask_hosted(settings)), ("Realtime", follow(settings))):
        try:
            detail = await ask
        except Exception as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise CrossfadeError(
                f"the database is ready, {name} is not: {reason}; run crossfade init again when that is corrected"
            ) from error
        typer.echo(f"proved: {name} {detail}")


async def _uninit(settings: Settings, env: Path, *, dry_run: bool, yes: bool, force: bool) -> None:
    url = _dsn(settings)
    async with facts.connected(url) as connection:
        found = await facts.find(connection, url)
        things = await removing.find(connection)
        versions = [each.version for each in installing.ours() if each.version in found.applied]
        if busy := await removing.writers(connection):
            if not force and not dry_run:
                raise CrossfadeError(
                    f"nothing was removed: somebody still writes {', '.join(busy)}; stop crossfade up there first, or use "
                    "--force"
                )
            typer.echo(f"still written: {', '.join(busy)}")
        counts = {
            kind: sum(thing.kind == kind for thing in things)
            for kind in dict.fromkeys(t.kind for t in things)
        }
        told = ", ".join(f"{count} {kind}{'s' if count != 1 else ''}" for kind, count in counts.items())
        typer.echo(f"in {found.database} as {found.user}: {told or 'nothing of ours'}")
        for thing in things:
            if thing.kind == "table":
                typer.echo(f"  {thing.name} with all its rows")
        if dry_run:
            return
        if things and not yes:
            typed = typer.prompt(
                f"This cannot be undone. Type the database's name ({found.database}) to go on"
            )
            if typed != found.database:
                raise CrossfadeError("nothing was removed: that is not the database's name")
        deleted, others = await users.remove(settings.supabase_url or "", _key(settings))
        await removing.remove(connection, things, versions)
    typer.echo(f"removed: {told or 'nothing of ours was there'}")
    if deleted or others:
        typer.echo(
            f"users deleted: {', '.join(deleted) or 'none'}; without their role: {', '.join(others) or 'none'}"
        )
    if gone := env_file.forget(env, _OWN):
        typer.echo(f"took {', '.join(gone)} out of {env}")


def _say_plan(
    found: Facts, pending: Sequence[Migration], people: Sequence[users.Wanted], env: Path | None
) -> None:
    typer.echo("")
    if pending:
        typer.echo(f"will apply to {found.database}, each as one transaction:")
        for each in pending:
            typer.echo(f"  {each.file.name}")
    else:
        typer.echo("every migration is applied already")
    for person in people:
        typer.echo(f"will give {person.email} the role {person.role}")
    if env is not None:
        typer.echo(f"will write the addresses and keys to {env}, readable by you alone")


def _variables(settings: Settings) -> dict[str, str]:
    values = {
        "SUPABASE_URL": settings.supabase_url,
        "SUPABASE_KEY": _key(settings),
        "DATABASE_URL": _dsn(settings),
        "SUPABASE_JWT_SECRET": settings.jwt_secret.get_secret_value() if settings.jwt_secret else None,
    }
    return {name: value for name, value in values.items() if value}


def _key(settings: Settings) -> str:
    return settings.supabase_key.get_secret_value() if settings.supabase_key else ""


def _dsn(settings: Settings) -> str:
    return settings.database_url.get_secret_value() if settings.database_url else ""
