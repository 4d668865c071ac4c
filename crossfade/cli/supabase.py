"""``crossfade supabase``: only the embedded Supabase, in the background, as the Supabase CLI would run one."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer
from rich.console import Console
from rich.table import Table

from crossfade import packaged, running
from crossfade.checks import check_parts
from crossfade.cli.display import LineDisplay
from crossfade.cli.options import DataDirOption, habit_option, port_option, settings_with
from crossfade.cli.options import data_dir as directory_of
from crossfade.cli.output import print_json
from crossfade.cli.up import stop_holder
from crossfade.errors import AlreadyRunning, CrossfadeError, NotRunning
from crossfade.locks import holder
from crossfade.paths import DataDir, read_json
from crossfade.plan import EMBEDDED, Addresses, Plan, flags_file, known_addresses, running_state
from crossfade.supervisor.model import State
from crossfade.wiring import embedded_keys
from embedded.habits import HABITS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from crossfade.settings import Settings

_WHAT = "crossfade supabase start"
_START_SECONDS = 90.0

app = typer.Typer(help="Run only the embedded Supabase, in the background.", no_args_is_help=True)

_HostOption = Annotated[
    str | None, typer.Option(help="Address to listen on. (default: 127.0.0.1)", show_default=False)
]
_ApiPort = Annotated[int | None, port_option("supabase", "the API", 54321)]
_DatabasePort = Annotated[int | None, port_option("database", "PostgreSQL", 54322)]
_HabitOption = Annotated[
    list[str] | None, habit_option("; ".join(f"{name}: {effect}" for name, effect in HABITS.items()))
]
_SignupOption = Annotated[bool, typer.Option("--enable-signup", help="Let anybody sign up (off by default).")]


class Output(StrEnum):
    """How the addresses and keys are written."""

    PRETTY = "pretty"
    ENV = "env"
    JSON = "json"


@app.command()
def start(
    data_dir: DataDirOption = None,
    host: _HostOption = None,
    port_supabase: _ApiPort = None,
    port_database: _DatabasePort = None,
    enable_signup: _SignupOption = False,
    habit: _HabitOption = None,
) -> None:
    """Start it in the background; crossfade supabase stop ends it.

    Applies ./supabase/migrations, and fills a new database from ./supabase/seed.sql (or as config.toml says).
    """
    settings = _settings(data_dir, host, port_supabase, port_database)
    data = directory_of(settings)
    data.create()
    if held := holder(data):
        raise AlreadyRunning(
            data.root, held[0], held[1], f"it has the Supabase; see crossfade supabase status{data.option}"
        )
    addresses = Addresses.of(settings)
    log = data.log("supervisor")
    argv = [
        *(sys.executable, "-m", "crossfade", "supabase", "run", "--data-dir", str(data.root)),
        *("--host", addresses.host, "--port-supabase", str(addresses.port_supabase)),
        *("--port-database", str(addresses.port_database)),
        *(("--enable-signup",) if enable_signup else ()),
        *(part for name in habit or () for part in ("--habit", name)),
    ]
    with log.open("wb") as output:
        child = subprocess.Popen(  # noqa: S603 - ourselves
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    _await_start(child, data, log)
    _print(Output.PRETTY, _facts(data, settings))


def _await_start(child: subprocess.Popen[bytes], data: DataDir, log: Path) -> None:
    """Wait until everything is ready; raises CrossfadeError with the last word of a supervisor that ended."""
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if child.poll() is not None:
            lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
            last = lines[-1].removeprefix("crossfade: ") if lines else f"exit status {child.returncode}"
            raise CrossfadeError(f"the Supabase did not start: {last}")
        state = read_json(data.state) or {}
        parts = state.get("parts", [])
        if state.get("pid") == child.pid and parts and all(part["state"] == State.READY for part in parts):
            return
        time.sleep(0.05)
    child.terminate()
    raise CrossfadeError(f"the Supabase was not ready after {_START_SECONDS:g} s; see {data.logs}")


@app.command("run", hidden=True)
def run(
    data_dir: DataDirOption = None,
    host: _HostOption = None,
    port_supabase: _ApiPort = None,
    port_database: _DatabasePort = None,
    enable_signup: _SignupOption = False,
    habit: _HabitOption = None,
) -> None:
    """Run it in the foreground; what ``start`` puts into the background."""
    settings = _settings(data_dir, host, port_supabase, port_database)
    data = directory_of(settings)
    project = Path.cwd() / "supabase"
    own = project / "migrations"
    migrations = (own,) if own.is_dir() and not own.samefile(packaged.migrations()) else ()
    plan = Plan(
        data=data,
        addresses=Addresses.of(settings),
        settings=settings,
        parts=EMBEDDED,
        flags=flags_file(data, settings),
        migrations=migrations,
        project=project,
        signup=enable_signup,
        habits=tuple(habit or ()),
    )
    running.run(plan, LineDisplay(typer.echo), what=_WHAT)


@app.command()
def status(
    data_dir: DataDirOption = None,
    output: Annotated[Output, typer.Option("-o", "--output", help="How it is written.")] = Output.PRETTY,
) -> None:
    """Print addresses and keys; exit 1 when it is not healthy."""
    settings = settings_with(data_dir=data_dir)
    data = directory_of(settings)
    state = running_state(data)
    if state is None or state.get("hosted"):
        raise NotRunning(
            f"no Supabase runs on {data.root}; start it with crossfade supabase start{data.option}"
        )
    _print(output, _facts(data, settings))
    bad = [
        check for check in asyncio.run(check_parts(data, settings)) if check.name in EMBEDDED and not check.ok
    ]
    if bad:
        raise CrossfadeError("; ".join(f"{check.name}: {check.detail}" for check in bad))


@app.command()
def stop(data_dir: DataDirOption = None) -> None:
    """Stop it; the data stays."""
    data = directory_of(settings_with(data_dir=data_dir))
    held = holder(data)
    if held and held[1] != _WHAT:
        raise CrossfadeError(
            f"the Supabase of {data.root} belongs to {held[1]} (pid {held[0]}); use crossfade stop{data.option}"
        )
    stop_holder(data)


def _settings(
    data: Path | None, host: str | None, port_supabase: int | None, port_database: int | None
) -> Settings:
    """Return the settings for an embedded Supabase, whatever the environment says of a hosted one."""
    settings = settings_with(
        data_dir=data, host=host, port_supabase=port_supabase, port_database=port_database
    )
    return settings.model_copy(update={"supabase_url": None, "supabase_key": None, "database_url": None})


def _facts(data: DataDir, settings: Settings) -> Mapping[str, str]:
    """Return addresses and keys under the names that the Supabase CLI uses."""
    keys, at = embedded_keys(data), known_addresses(data, settings)
    password = quote(keys.db_password)
    return {
        "API_URL": at.supabase,
        "DB_URL": f"postgresql://postgres:{password}@{at.near}:{at.port_database}/postgres",
        "ANON_KEY": keys.anon_key,
        "SERVICE_ROLE_KEY": keys.service_role_key,
        "JWT_SECRET": keys.jwt_secret,
        "PUBLISHABLE_KEY": keys.publishable_key,
        "SECRET_KEY": keys.secret_key,
    }


def _print(output: Output, facts: Mapping[str, str]) -> None:
    match output:
        case Output.ENV:
            typer.echo("\n".join(f'{name}="{value}"' for name, value in facts.items()))
        case Output.JSON:
            print_json(dict(facts))
        case Output.PRETTY:
            grid = Table.grid(padding=(0, 2))
            for name, value in facts.items():
                grid.add_row(name.replace("_", " ").lower(), value)
            Console(soft_wrap=True, width=None if os.isatty(1) else 400).print(grid)
