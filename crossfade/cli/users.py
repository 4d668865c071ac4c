"""``crossfade users``: who may sign in to the installation's Supabase, and as what."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from crossfade.accounts import ROLE, Accounts, accounts, secret_of
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.wiring import Role

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from supabase_auth.types import User

app = typer.Typer(help="Who may sign in, by e-mail and password, and as what.", no_args_is_help=True)

EmailArgument = Annotated[str, typer.Argument(metavar="EMAIL", help="The address they sign in with.")]


@app.command()
def add(
    email: EmailArgument,
    role: Annotated[Role, typer.Option(help="What they may do.")] = Role.VIEWER,
    password: Annotated[
        str | None,
        typer.Option(
            envvar="CROSSFADE_USER_PASSWORD",
            help="Their password; without one it is made, and printed once.",
            show_default=False,
        ),
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Let somebody sign in to the dashboard."""
    chosen = _ask(data_dir, lambda project: project.add(email, role, password))
    typer.echo(f"{email} may sign in as {role}" + ("" if password else f", with the password {chosen}"))


@app.command("list")
def list_(data_dir: DataDirOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Show who may sign in."""
    users: list[User] = _ask(data_dir, Accounts.all)
    rows = [
        {
            "email": user.email,
            "role": user.app_metadata.get(ROLE),
            "created_at": user.created_at.isoformat(),
            "last_sign_in_at": user.last_sign_in_at.isoformat() if user.last_sign_in_at else None,
        }
        for user in users
    ]
    if format_ is Format.JSON:
        print_json({"users": rows})
        return
    for row in rows:
        typer.echo(f"{row['email']}  {row['role'] or 'no role: may not read'}")
    if not rows:
        typer.echo("nobody yet; crossfade users add EMAIL --role operator")


@app.command("role")
def role_(
    email: EmailArgument,
    role: Annotated[Role, typer.Argument(help="What they may do from now on.")],
    data_dir: DataDirOption = None,
) -> None:
    """Change what somebody may do; it holds when they sign in the next time."""

    async def change(project: Accounts) -> None:
        await project.set_role(await project.known(email), role)

    _ask(data_dir, change)
    typer.echo(f"{email} is {role}")


@app.command()
def remove(email: EmailArgument, data_dir: DataDirOption = None) -> None:
    """Let somebody in no more; what they have open ends within the hour."""

    async def take(project: Accounts) -> None:
        await project.remove(await project.known(email))

    _ask(data_dir, take)
    typer.echo(f"{email} may not sign in any more")


def _ask(data_dir: Path | None, question: Callable[[Accounts], Awaitable[Any]]) -> Any:
    """Ask the project's auth endpoint as its administrator; raises CrossfadeError."""
    url, key = secret_of(wiring(data_dir))

    async def ask() -> Any:
        async with accounts(url, key) as project:
            return await question(project)

    return asyncio.run(ask())
