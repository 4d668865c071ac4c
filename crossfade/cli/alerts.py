"""``crossfade alerts``: what is wrong, who is told, and what a rule would have said."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from alerting import delivery, preview, publishing
from alerting.errors import InvalidRules, NotDelivered
from alerting.notices import Message
from alerting.rule_file import read
from alerting.rules import Rules, Severity
from crossfade import plan
from crossfade.alert_lines import SHORT_ID, doubts, lines
from crossfade.asking import ask
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.client import Client
from crossfade.durations import format_seconds, parse_duration
from crossfade.errors import CrossfadeError, UsageError
from crossfade.paths import read_json
from crossfade.wiring import Role, Wiring
from monitoring.cursor import Cursor
from monitoring.events import Event

app = typer.Typer(help="What is wrong, who is told, and what a rule would have said.", no_args_is_help=True)

_ANSWER_SECONDS = 15.0
_HISTORY_SECONDS = 300.0
_PATTERNS = ("rules", "devices", "items")

_RULE_FILE = (
    "The rule file. (default: the one in force: CROSSFADE_ALERTS, alerts.yaml here, or the data directory's)"
)

RulesOption = Annotated[
    Path | None,
    typer.Option("--rules", metavar="PATH", help=_RULE_FILE, show_default=False),
]


def _duration(text: str) -> timedelta:
    return parse_duration(text)


@app.command("list")
def list_(
    history: Annotated[
        bool, typer.Option("--history", help="The newest 100, with those that are resolved.")
    ] = False,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what is wrong now, the worst first; exit 0 whatever it is.

    It is read from the stream, so that it works while any one backend is away; --history asks the query service. What the list
    cannot be trusted for, and why people may not have been told, is said on stderr.
    """
    wired = wiring(data_dir)
    if history:
        found = ask(wired, "GET", "/api/alerts", query={"state": "all", "limit": 100}, role=Role.VIEWER)
    else:
        found = asyncio.run(_open(wired))
        found["doubts"] = _doubts(wired, heard=found["as_of"] is not None)
    for doubt in found.get("doubts", ()):
        typer.echo(doubt, err=True)
    if format_ is Format.JSON:
        print_json(found)
    elif found["alerts"]:
        for alert in found["alerts"]:
            typer.echo("\n".join(lines(alert)))
        if found.get("left_out"):
            typer.echo(f"and {found['left_out']} more")
    elif history:
        typer.echo("there was no alert yet")
    elif found["as_of"] is not None:
        typer.echo("nothing is wrong")


async def _open(wired: Wiring) -> dict[str, Any]:
    """Return the open alerts, as the alerting process told them last; raises CrossfadeError."""
    async with Client(wired.connect_router) as client:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                snapshot = await client.snapshot("categories.alerts")
        except TimeoutError:
            raise CrossfadeError(
                f"no backend answers within {_ANSWER_SECONDS:g} s; see crossfade status{wired.data.option}"
            ) from None
    told = [event for event in snapshot.state if event.kind == publishing.COLLECTED]
    if not told:
        return {"alerts": [], "counts": {}, "left_out": 0, "as_of": None}
    newest = max(told, key=lambda event: event.occurred_at)
    return {**newest.payload, "as_of": newest.occurred_at}


def _doubts(wired: Wiring, *, heard: bool) -> list[str]:
    """Return what a reader must know about the list of open alerts."""
    file = wired.data.alerts_status
    try:
        age = time.time() - file.stat().st_mtime
    except OSError:
        age = None
    up = plan.running_state(wired.data)
    found = doubts(heard=heard, up=up, status=read_json(file), age_seconds=age, option=wired.data.option)
    return list(found)


@app.command()
def validate(
    path: Annotated[
        Path | None, typer.Argument(metavar="[PATH]", help=_RULE_FILE, show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Look at a rule file and say what is wrong with it, with the line; nothing is changed."""
    wired = wiring(data_dir)
    found = path or plan.alerts_file(wired.data, wired.settings)
    rules = _read(found)
    for channel in rules.channels:
        delivery.check(channel, found.parent)
    typer.echo(f"{found}: {len(rules.rules)} rules, {len(rules.channels)} channels, all good")


def _read(path: Path) -> Rules:
    """Return the rules of a file; raises CrossfadeError."""
    try:
        return read(path)
    except InvalidRules as error:
        raise CrossfadeError(f"{path}: {error}") from error
    except OSError as error:
        raise CrossfadeError(f"{path} cannot be read: {error.strerror or error}") from error


@app.command("test")
def try_rule(
    rule: Annotated[str, typer.Argument(metavar="RULE", help="A rule of the file.")],
    since: Annotated[
        Any,
        typer.Option(
            "--since", parser=_duration, metavar="DURATION", help="How far back to look: 30m, 1d ..."
        ),
    ] = "1d",
    rules: RulesOption = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Show what a rule of the file would have said of the past, as far as history reaches; nobody is told."""
    wired = wiring(data_dir)
    path = rules or plan.alerts_file(wired.data, wired.settings)
    given = _read(path)
    if given.rule(rule) is None:
        names = ", ".join(each.name for each in given.rules) or "none"
        raise UsageError(f"{path} has no rule {rule!r}; rules are {names}")
    until = datetime.now(UTC)
    events = asyncio.run(_history(wired, until - since))
    played = preview.play(preview.with_parts(given, rule), events, until)
    changes = [change for change in played.changes if change["rule"] == rule]
    if format_ is Format.JSON:
        print_json(
            {
                "rule": rule,
                "events": played.events,
                "first": played.first,
                "changes": changes,
                "messages": [{"at": m.made_at, "title": m.title, "body": m.body} for m in played.messages],
            }
        )
        return
    for change in changes:
        target = f"{change['device']} {change['item']}".rstrip()
        word = "FIRING" if change["firing"] else "no data" if change["state"] == "no_data" else "resolved"
        quiet = f" (caused by {change['inhibited_by']})" if change["inhibited_by"] else ""
        typer.echo(
            f"{str(change['since'])[:19].replace('T', ' ')}  {word:<8}  {target}  {change['value']}{quiet}"
        )
    reach = f"from {played.first:%Y-%m-%d %H:%M:%S} UTC" if played.first else "and there is no history"
    fired = sum(bool(change["firing"]) for change in changes)
    typer.echo(
        f"{rule}: {fired} times firing, {len(played.messages)} messages; {played.events} events {reach}"
    )


async def _history(wired: Wiring, since: datetime) -> list[Event]:
    """Return what history has since a time, in order of time; raises CrossfadeError."""
    found: list[Event] = []
    try:
        async with (
            asyncio.timeout(_HISTORY_SECONDS),
            Client(wired.connect_router) as client,
        ):
            upto = (await client.snapshot()).cursor
            async with client.subscribe(since=Cursor()) as events:
                while not events.cursor.covers(upto):
                    found += [item for item in await events.batch() if isinstance(item, Event)]
    except TimeoutError:
        raise CrossfadeError(
            f"history could not be read within {_HISTORY_SECONDS:g} s; try a shorter --since"
        ) from None
    found = [event for event in found if event.occurred_at >= since]
    return sorted(found, key=lambda event: event.occurred_at)


@app.command()
def ack(
    alert: Annotated[
        str, typer.Argument(metavar="ID", help="The alert's id, or its beginning, as list shows it.")
    ],
    data_dir: DataDirOption = None,
) -> None:
    """Say that you are on it: it is not told again until it is resolved."""
    wired = wiring(data_dir)
    opened = asyncio.run(_open(wired))["alerts"]
    matching = [each for each in opened if each["id"].startswith(alert.lower())]
    if len(matching) != 1:
        raise UsageError(
            f"{len(matching) or 'no'} open alert{'s begin' if matching else ' begins'} with {alert!r}; "
            f"see crossfade alerts list{wired.data.option}"
        )
    (found,) = matching
    what = f"{found['rule']} {found['device']} {found['item']}".rstrip()
    if not found["firing"]:
        raise UsageError(
            f"{what} does not fire, it is {found['state'].replace('_', ' ')}: nobody is told of it anyway"
        )
    ask(wired, "POST", f"/api/alerts/{found['id']}/acknowledge")
    typer.echo(f"acknowledged: {what}")


@app.command()
def silence(
    for_: Annotated[
        Any,
        typer.Option(
            "--for", parser=_duration, metavar="DURATION", help="How long: 30m, 2h ...", show_default=False
        ),
    ] = None,
    rule: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Rules; repeat for more. (default: all)", show_default=False),
    ] = None,
    device: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PATTERN", help="Devices, for example web-*. (default: all)", show_default=False
        ),
    ] = None,
    item: Annotated[
        list[str] | None,
        typer.Option(metavar="PATTERN", help="Containers, disks ... (default: all)", show_default=False),
    ] = None,
    comment: Annotated[str, typer.Option(metavar="TEXT", help="Why.")] = "",
    end: Annotated[
        str | None, typer.Option(metavar="ID", help="End this silence instead.", show_default=False)
    ] = None,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Keep people from being told for a while; without options show what is silenced.

    --for alone silences everything. What fires meanwhile is still listed, and told when the silence is over if it still does.
    """
    wired = wiring(data_dir)
    if end is not None:
        ask(wired, "POST", f"/api/alerts/silences/{_full_id(wired, end)}/end")
        typer.echo("the silence has ended")
        return
    if for_ is None:
        if rule or device or item:
            raise UsageError("say for how long: --for 2h")
        _show_silences(ask(wired, "GET", "/api/alerts/silences", role=Role.VIEWER), format_)
        return
    body = {
        "rules": rule or ["*"],
        "devices": device or ["*"],
        "items": item or ["*"],
        "for_seconds": for_.total_seconds(),
        "comment": comment,
    }
    kept = ask(wired, "POST", "/api/alerts/silences", body=body)
    if format_ is Format.JSON:
        print_json(kept)
    else:
        what = ", ".join(f"{name} {' '.join(body[name])}" for name in _PATTERNS if body[name] != ["*"])
        typer.echo(
            f"{what or 'everything'} is silenced for {format_seconds(for_.total_seconds())}: {kept['id']}"
        )
        typer.echo(
            f"it is ended early by: crossfade alerts silence{wired.data.option} --end {kept['id'][:SHORT_ID]}"
        )


def _full_id(wired: Wiring, beginning: str) -> str:
    there = ask(wired, "GET", "/api/alerts/silences", role=Role.VIEWER)["silences"]
    matching = [each["id"] for each in there if each["id"].startswith(beginning.lower())]
    if len(matching) != 1:
        raise UsageError(
            f"{len(matching) or 'no'} silence begins with {beginning!r}; see crossfade alerts silence"
        )
    return str(matching[0])


def _show_silences(found: dict[str, Any], format_: Format) -> None:
    if format_ is Format.JSON:
        print_json(found)
        return
    for each in found["silences"]:
        what = ", ".join(f"{name} {' '.join(each[name])}" for name in _PATTERNS if each[name] != ["*"])
        typer.echo(
            f"{each['id']}  until {each['ends_at'][:19].replace('T', ' ')}  {what or 'everything'}  "
            f"by {each['made_by']}  {each['comment']}".rstrip()
        )
    if not found["silences"]:
        typer.echo("nothing is silenced")


@app.command("notify-test")
def notify_test(
    channel: Annotated[
        str | None,
        typer.Argument(metavar="[CHANNEL]", help="One channel; all of them by default.", show_default=False),
    ] = None,
    rules: RulesOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Send a test message by the channels of the rule file, and say which took it."""
    wired = wiring(data_dir)
    path = rules or plan.alerts_file(wired.data, wired.settings)
    given = _read(path)
    chosen = [each for each in given.channels if channel in {None, each.name}]
    if channel is not None and not chosen:
        names = ", ".join(each.name for each in given.channels) or "none"
        raise UsageError(f"{path} has no channel {channel!r}; channels are {names}")
    if not chosen:
        raise CrossfadeError(
            f"{path} has no channels: nobody is told of anything; docs/alerts.md says how to add one"
        )
    now = datetime.now(UTC)
    failed = []
    for each in chosen:
        title, body = "[test] crossfade alerts", f"A test of the channel {each.name}. Nothing is wrong."
        message = Message(
            "test", each.name, Severity.INFO, resolved=False, title=title, body=body, made_at=now, lines=1
        )
        try:
            asyncio.run(delivery.deliver(each, message, path.parent, attempts=1))
        except NotDelivered as error:
            failed.append(str(error))
        else:
            typer.echo(f"{each.name}: taken")
    if failed:
        raise CrossfadeError("; ".join(failed))
