# ruff: noqa: INP001 - a script, not a package
"""Print docs/cli.md: the help of every command, as the command itself prints it."""

from __future__ import annotations

import os
import sys

os.environ |= {
    "COLUMNS": "110",
    "TERMINAL_WIDTH": "110",
    "NO_COLOR": "1",
    "TERM": "dumb",
}  # read when typer is imported
os.environ.pop("FORCE_COLOR", None)
os.environ.pop("GITHUB_ACTIONS", None)

from typer.testing import CliRunner

from crossfade.cli.app import app, register

COMMANDS = (
    "projects", "projects list", "projects create", "projects rename", "projects archive", "projects restore",
    "projects add", "projects remove", "export", "export events", "export series",
    "up", "stop", "serve", "logs", "status", "watch", "moves", "flags", "flags validate", "flags list", "flags set", "flags explain",
    "flags plan", "flags diff", "flags export", "flags history", "stages",
    "rollout", "rollout start", "rollout status", "rollout plan", "rollout advance", "rollout hold", "rollout resume",
    "rollout rollback", "rollout complete", "rollout end", "rollout history", "capacity",
    "validate", "validate live", "validate record", "validate replay", "validate compare", "validate selftest", "validate report",
    "validate history", "validate state",
    "devices", "devices list", "devices add", "devices edit", "devices remove", "devices test", "devices import",
    "checks", "checks list", "checks validate", "checks test", "doctor", "init", "uninit",
    "containers", "containers list", "containers start", "containers stop", "containers restart",
    "containers logs", "alerts", "alerts list", "alerts test", "alerts ack", "alerts silence", "alerts validate",
    "alerts notify-test", "agent", "commands", "commands submit", "commands list", "commands show", "commands cancel",
    "commands agents", "keys", "keys create", "keys list", "keys revoke", "users", "users add", "users list", "users role", "users remove", "token", "legacy", "legacy record", "supabase", "supabase start", "supabase status", "supabase stop", "version",
)  # fmt: skip

INTRODUCTION = """# Command line

The help of every command; `make fmt` writes this page anew. Exit codes: 0 good; 1 not good: a finding, or something
failed or is not there; 2 wrong usage; for `validate` 1 is a finding alone, 2 also an error, 3 inconclusive, 4 no data; for
`rollout status` 3 is a hold. `--format json` on whatever reports. Durations: `30`, `30s`, `10m`, `2h`.
"""


def reference() -> str:
    """Return the page."""
    return "\n".join([INTRODUCTION, *map(_section, COMMANDS)])


def _section(command: str) -> str:
    done = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="crossfade")
    if done.exit_code:
        raise SystemExit(f"crossfade {command} --help: {done.output}")
    lines = [line.rstrip() for line in done.output.strip("\n").splitlines()]
    return f"## crossfade {command}\n\n```text\n" + "\n".join(lines).strip() + "\n```\n"


if __name__ == "__main__":
    register([])
    sys.stdout.write(reference())
