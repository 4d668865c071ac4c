"""The command's entry: its groups, and the one place where an error becomes a line and an exit status."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from typer.exceptions import TyperException

from adapters.errors import AdapterError
from alerting.errors import AlertingError
from crossfade.cli.options import Format, FormatOption, debugging
from crossfade.cli.output import discard_output, print_json
from crossfade.errors import CrossfadeError
from embedded.errors import EmbeddedError
from legacy_ws.errors import LegacyError
from monitoring.errors import InvalidCursor, InvalidTopic, MonitoringError
from validation.errors import ValidationError

if TYPE_CHECKING:
    from collections.abc import Sequence

_MISUSE = (InvalidTopic, InvalidCursor)
"""Mistakes of the caller that other packages find; the command line's own say their exit status themselves."""
_OURS = (
    AdapterError,
    AlertingError,
    CrossfadeError,
    EmbeddedError,
    LegacyError,
    MonitoringError,
    ValidationError,
)

app = typer.Typer(
    name="crossfade",
    help="Move the clients of a live monitoring stream from a WebSocket server to Supabase Realtime, one by one.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"crossfade {_version()}")
        raise typer.Exit


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    asked_version: Annotated[  # noqa: ARG001 - its callback prints
        bool, typer.Option("--version", help="Print the version.", is_eager=True, callback=_print_version)
    ] = False,
) -> None:
    if debug:
        os.environ["CROSSFADE_DEBUG"] = "1"


@app.command()
def version(format_: FormatOption = Format.TEXT) -> None:
    """Print the version."""
    number = _version()
    if format_ is Format.JSON:
        print_json({"version": number})
    else:
        typer.echo(f"crossfade {number}")


def _version() -> str:
    try:
        return importlib.metadata.version("crossfade")
    except importlib.metadata.PackageNotFoundError:
        return "0 (not installed)"


_MODULES = {
    "up": "up",
    "stop": "up",
    "serve": "serve",
    "logs": "logs",
    "status": "status",
    "watch": "watch",
    "moves": "moves",
    "devices": "devices",
    "containers": "containers",
    "agent": "agent",
    "commands": "commands",
    "flags": "flags",
    "stages": "stages",
    "rollout": "rollout",
    "capacity": "capacity",
    "token": "token",
    "users": "users",
    "keys": "keys",
    "alerts": "alerts",
    "projects": "projects",
    "export": "export",
    "validate": "validate",
    "checks": "checks",
    "doctor": "doctor",
    "init": "init",
    "uninit": "init",
    "supabase": "supabase",
    "legacy": "legacy",
}
"""Command -> its module in this package."""


def register(arguments: Sequence[str]) -> None:
    """Add the commands that the arguments can mean: one, or all of them for the help.

    Together the commands import every driver we have, which takes seconds on a busy machine.
    """
    first = next((argument for argument in arguments if not argument.startswith("-")), "")
    if first == "version" or (not first and "--version" in arguments):
        return
    for name in [first] if first in _MODULES else list(_MODULES):
        module = importlib.import_module(f"crossfade.cli.{_MODULES[name]}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name)
        else:
            app.command(name)(getattr(module, name))


def main() -> None:
    """Run the command and end the process: every failure is one line on stderr and a status that is not 0."""
    try:
        register(sys.argv[1:])
        sys.exit(_answer())
    except typer.Exit as error:
        sys.exit(error.exit_code)
    except TyperException as error:
        if debugging():
            raise
        _say(_slip(error))
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        # Whoever read our output has gone: nothing is left to say, and nobody to say it to.
        discard_output()
        sys.exit(0)
    except _OURS as error:
        if debugging():
            raise
        _say(str(error))
        sys.exit(2 if isinstance(error, _MISUSE) else getattr(error, "exit_code", 1))
    except Exception as error:
        if debugging():
            raise
        _say(
            f"unexpected {type(error).__name__}: {error}; run again with crossfade --debug for the traceback"
        )
        sys.exit(1)


def _answer() -> int:
    """Run the command and return its exit status; raises BrokenPipeError, of which typer makes an exit with 1."""
    try:
        return int(app(prog_name="crossfade", standalone_mode=False) or 0)
    except SystemExit as error:
        if isinstance(error.__context__, BrokenPipeError):
            raise error.__context__ from None
        raise


def _slip(error: TyperException) -> str:
    """Say what is wrong with the arguments, without what the parser puts before it, and whose help explains it."""
    context, message = getattr(error, "ctx", None), error.format_message()
    if not message:  # a group without a command has shown its help
        return ""
    command = "crossfade" if context is None else context.command_path
    return f"{message.replace(': Value error, ', ': ').rstrip('.')}; see {command} --help"


def _say(message: str) -> None:
    if message:
        sys.stderr.write(f"crossfade: {' '.join(message.split())}\n")
