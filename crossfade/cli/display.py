"""What ``crossfade up`` shows: a live table on a terminal, plain lines elsewhere. A display never ends a run."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from crossfade.durations import format_seconds
from crossfade.flag_summary import summarize
from crossfade.paths import read_json
from crossfade.plan import EMBEDDED
from crossfade.supervisor.model import State
from crossfade.wiring import open_flags

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from adapters.flag_file import FlagFile
    from crossfade.paths import DataDir
    from crossfade.plan import Plan
    from crossfade.running import Display
    from crossfade.supervisor.model import Part
    from crossfade.supervisor.supervisor import View

_COLOURS = {State.READY: "green", State.STARTING: "yellow", State.BACKOFF: "red", State.FAILED: "bold red"}
_TRY = (
    ("crossfade status{}", "is everything healthy?"),
    ("crossfade watch{} --for 10s", "events as JSON lines"),
    ("crossfade flags set{} live.percent 100", "move every client to Supabase"),
    ("crossfade validate live{} --for 30s", "compare both paths, event by event"),
)
"""Commands, with the place of the option that names the data directory, and what they are for."""


def hints(data: DataDir) -> Iterator[tuple[str, str]]:
    """Return commands to try on a data directory, and what they are for."""
    for command, meaning in _TRY:
        yield command.format(data.option), meaning


def make_display() -> Display:
    """Return the display that fits where stdout goes."""
    return TableDisplay(Console()) if sys.stdout.isatty() else LineDisplay(_print)


def _print(line: str) -> None:
    """Write a line; when nobody reads any more, nothing is said."""
    try:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    except (OSError, ValueError):
        return


class LineDisplay:
    """One line per change."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._said: dict[str, str] = {}
        self._flags: FlagFile | None = None
        self._problem: str | None = None

    def begun(self, plan: Plan) -> None:
        """Say what starts."""
        self._write(f"starting {', '.join(plan.parts)} in {plan.data.root}")

    def changed(self, part: Part) -> None:
        """Say the new state, once."""
        line = f"{part.name}: {part.state}"
        if detail := part.describe():
            line += f" ({detail})"
        if self._said.get(part.name) != line and part.state is not State.STOPPING:
            self._said[part.name] = line
            self._write(line)

    def ready(self, plan: Plan) -> None:
        """Say where to look and what to try."""
        self._write("everything is ready")
        for part in plan.parts:
            if address := plan.addresses.shown(part):
                self._write(f"  {part}: {address}")
        for command, meaning in hints(plan.data):
            self._write(f"  try {command}  # {meaning}")

    def refresh(self, plan: Plan, views: Sequence[View]) -> None:  # noqa: ARG002 - of the parts each change is said
        """Say when the flag file is refused, once for each reason, and when it is good again."""
        if set(plan.parts) <= set(EMBEDDED):
            return  # a Supabase alone has no clients of ours to route
        self._flags = self._flags or open_flags(plan.data, plan.flags, plan.settings.switches)
        current = self._flags.refresh()
        before, self._problem = self._problem, self._flags.problem()
        if self._problem == before:
            return
        self._write(f"flags: {self._problem or f'good again, {summarize(current)}'}")

    def stopping(self, reason: str) -> None:
        """Say why it ends."""
        self._write(f"stopping: {reason}")


class TableDisplay:
    """A table that is drawn anew twice a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live = Live(console=console, auto_refresh=False, transient=False)
        self._flags: FlagFile | None = None
        self._note = Text("starting ...", style="dim")
        self._hints: Table | None = None
        self._gone = False

    def begun(self, plan: Plan) -> None:
        """Begin to draw."""
        self._flags = open_flags(plan.data, plan.flags, plan.settings.switches)
        self._guarded(self._live.start)

    def changed(self, part: Part) -> None:
        """Wait for the next drawing."""

    def ready(self, plan: Plan) -> None:
        """Show what to try."""
        table = Table.grid(padding=(0, 2))
        if "dashboard" in plan.parts:
            table.add_row(Text(plan.addresses.dashboard, style="bold cyan"), "open the dashboard")
        for command, meaning in hints(plan.data):
            table.add_row(Text(command, style="cyan"), meaning)
        self._hints = table
        self._note = Text("Ctrl-C stops everything", style="dim")

    def refresh(self, plan: Plan, views: Sequence[View]) -> None:
        """Draw."""
        lines = [Text(line) for line in summaries(plan, self._flags)]
        rows: list[RenderableType] = [
            _table(views),
            *lines,
            *([self._hints] if self._hints else []),
            self._note,
        ]
        self._guarded(lambda: self._live.update(Group(*rows), refresh=True))
        if views and all(view.part.over for view in views):
            self._guarded(self._live.stop)

    def stopping(self, reason: str) -> None:
        """Show why it ends."""
        self._note = Text(f"stopping: {reason} (Ctrl-C again ends everything at once)", style="yellow")

    def _guarded(self, draw: Callable[[], None]) -> None:
        """Draw, unless the terminal is gone."""
        if self._gone:
            return
        try:
            draw()
        except (OSError, ValueError):
            self._gone = True


def _table(views: Sequence[View]) -> Table:
    now = time.monotonic()
    table = Table(box=None, pad_edge=False, header_style="dim", expand=True)
    for column in ("part", "state", "address", "pid"):
        table.add_column(column, no_wrap=True)
    table.add_column("restarts", justify="right")
    table.add_column("last line", no_wrap=True, overflow="ellipsis", ratio=1, style="dim")
    for view in views:
        part = view.part
        state = Text(
            f"{part.state} {format_seconds(now - part.since)}", style=_COLOURS.get(part.state, "dim")
        )
        last = part.describe() or view.last_line
        pid = str(part.pid or "")
        table.add_row(part.name, state, view.address, pid, str(part.restarts or ""), Text(last))
    return table


def summaries(plan: Plan, flags: FlagFile | None) -> list[str]:
    """Return a line each on events, parity and flags, from what the parts have written."""
    return [
        line
        for line in (
            _events(read_json(plan.data.run / "collect.json")) if "collect" in plan.parts else "",
            _parity(read_json(plan.data.parity)) if "parity" in plan.parts else "",
            _flag_line(flags),
        )
        if line
    ]


def _events(report: dict[str, Any] | None) -> str:
    if not report:
        return ""
    streams = report.get("streams", {})
    count = sum(int(stream.get("events", 0)) for stream in streams.values())
    docker = report.get("docker", {})
    note = "" if docker.get("available") else f"; {docker.get('detail', '')}"
    return f"events    {count} of {len(streams)} streams; {report.get('detail', '')}{note}"


def _parity(report: dict[str, Any] | None) -> str:
    if not report:
        return ""
    if report.get("state") == "idle":
        return f"parity    {report.get('reason', '')}"
    if report.get("state") != "comparing":
        return "parity    waiting for both backends"
    counts = {name: count for name, count in report.get("counts", {}).items() if count}
    told = (
        ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
        or "nothing decided yet"
    )
    seen = report.get("clients") or {}
    clients = f"; {seen['differ']} of {seen['blocks']} blocks of clients differ" if seen.get("blocks") else ""
    return f"parity    {told}, {report.get('pending', 0)} pending{clients}"


def _flag_line(flags: FlagFile | None) -> str:
    if flags is None:
        return ""
    current = flags.refresh()
    if problem := flags.problem():
        return f"flags     {problem}"
    return f"flags     {summarize(current)}  ({flags.path})"
