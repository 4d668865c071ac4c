"""``crossfade validate``: compare both paths, recordings, and the comparison itself."""

from __future__ import annotations

import asyncio
import importlib.metadata
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from crossfade.cli.options import DataDirOption, Format, FormatOption, ForOption, wiring
from crossfade.cli.output import print_json
from crossfade.cli.validate_selftest import selftest
from crossfade.cli.validate_state import state
from crossfade.cli.validating import (
    MinCoverageOption,
    MinDecidedOption,
    OnlyKeysOption,
    OutOption,
    RedactOption,
    ReportFormat,
    ReportFormatOption,
    RuleOutOption,
    RulesOption,
    TopicsOption,
    errors,
    opened,
    privacy,
    running,
)
from crossfade.comparing import FRAMES, Asked, about, compare_live, read_rules
from crossfade.errors import UsageError
from crossfade.validation_runs import keep, report_of, runs, write_rows
from validation.frames import read
from validation.html import to_html
from validation.junit import to_junit
from validation.observation import FINDINGS
from validation.recordings import Fields, compare_recordings
from validation.replaying import replay
from validation.report import OPEN, Privacy, to_json, to_text
from validation.result import Thresholds
from validation.terms import Terms

if TYPE_CHECKING:
    from crossfade.wiring import Wiring
    from validation.result import Result
    from validation.runner import LiveComparison

_DEFAULT_SECONDS = 30.0

app = typer.Typer(help="Compare what both backends deliver.", no_args_is_help=True)


class Until(StrEnum):
    """What else ends a run."""

    PASS = "pass"  # noqa: S105 - a verdict


app.command("selftest")(selftest)
app.command("state")(state)


@app.callback()
def _group() -> None:
    """Compare what both backends deliver."""


@app.command("live")
def live(
    for_: ForOption = None,
    until: Annotated[
        Until | None, typer.Option("--until", help="End as soon as it passes, or fails.", show_default=False)
    ] = None,
    min_decided: MinDecidedOption = 10,
    min_coverage: MinCoverageOption = 0.99,
    rule_out: RuleOutOption = None,
    topic: TopicsOption = None,
    rules: RulesOption = None,
    format_: ReportFormatOption = ReportFormat.TEXT,
    out: OutOption = None,
    only_keys: OnlyKeysOption = False,
    redact: RedactOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Compare both backends live; exit 0 PASS, 1 FAIL, 2 error, 3 INCONCLUSIVE, 4 NO_DATA."""
    with errors():
        seconds = for_.total_seconds() if for_ else None if until else _DEFAULT_SECONDS
        if until and rule_out is None:
            rule_out = 0.01
        thresholds = Thresholds(min_decided, min_coverage, rule_out)
        asked = Asked(seconds, thresholds, until is not None, tuple(topic or ["global"]), read_rules(rules))
        wired = running(data_dir)
        result = _compare(wired, asked)
        _finish(wired, result, about("live", _version(), rules), format_, out, privacy(only_keys, redact))


@app.command("record")
def record(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A new directory for the recording.")],
    for_: ForOption = None,
    topic: TopicsOption = None,
    format_: ReportFormatOption = ReportFormat.TEXT,
    data_dir: DataDirOption = None,
) -> None:
    """Compare both backends live, and keep all that was seen, to replay it; exit as `live` does."""
    with errors():
        seconds = for_.total_seconds() if for_ else _DEFAULT_SECONDS
        wired = running(data_dir)
        result = _compare(
            wired, Asked(seconds, Thresholds(), False, tuple(topic or ["global"]), record=directory)
        )
        _finish(wired, result, about("live", _version(), recording=directory.name), format_, None, OPEN)


@app.command("replay")
def replay_recording(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="What `record` has made.")],
    format_: ReportFormatOption = ReportFormat.TEXT,
    out: OutOption = None,
    only_keys: OnlyKeysOption = False,
    redact: RedactOption = None,
) -> None:
    """Compare a recording again: the same result as when it was made; exit as `live` does."""
    with errors(), opened(directory / FRAMES) as lines:
        result = replay(read(lines))
        _write(result, about("replay", _version()), format_, out, privacy(only_keys, redact))
    raise typer.Exit(result.exit_code)


@app.command("compare")
def compare(
    control: Annotated[Path, typer.Argument(metavar="A.jsonl", help="The recording of the old stream.")],
    candidate: Annotated[Path, typer.Argument(metavar="B.jsonl", help="The recording of the new one.")],
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="PATH", help="A field of the identity; repeat.", show_default=False),
    ] = None,
    stream: Annotated[
        str | None,
        typer.Option("--stream", metavar="PATH", help="The field with the stream.", show_default=False),
    ] = None,
    time: Annotated[
        str | None,
        typer.Option("--time", metavar="PATH", help="The field with the time.", show_default=False),
    ] = None,
    min_decided: MinDecidedOption = 10,
    min_coverage: MinCoverageOption = 0.99,
    rules: RulesOption = None,
    format_: ReportFormatOption = ReportFormat.TEXT,
    out: OutOption = None,
    only_keys: OnlyKeysOption = False,
    redact: RedactOption = None,
) -> None:
    """Compare anybody's recordings of two streams, a line of JSON an event; exit as `live` does."""
    with errors(), opened(control) as a, opened(candidate) as b:
        terms = Terms(thresholds=Thresholds(min_decided, min_coverage), rules=read_rules(rules))
        result = compare_recordings(
            a, b,
            names=(control.name, candidate.name),
            fields=Fields(tuple(key or ()), stream, time),
            terms=terms,
            now=datetime.now(UTC),
        )  # fmt: skip
        said = about("compare", _version(), rules, legacy=control.name, supabase=candidate.name)
        _write(result, said, format_, out, privacy(only_keys, redact))
    raise typer.Exit(result.exit_code)


@app.command("report")
def report(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="A run of `history`; `last` is the newest.")
    ] = "last",
    format_: ReportFormatOption = ReportFormat.TEXT,
    out: OutOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Show the report of an earlier run again, in any form; exit as that run did."""
    with errors():
        found = report_of(wiring(data_dir).data, run)
        _put(_formed(found, found.get("text", ""), format_), out)
    raise typer.Exit(int(found["exit_code"]))


@app.command("history")
def history(
    limit: Annotated[int, typer.Option(min=1, help="Show the newest so many.")] = 20,
    format_: FormatOption = Format.TEXT,
    data_dir: DataDirOption = None,
) -> None:
    """List the runs that were made, the newest first."""
    with errors():
        found = [each for each, _ in zip(runs(wiring(data_dir).data), range(limit), strict=False)]
    if format_ is Format.JSON:
        keys = ("verdict", "reasons", "started_at", "ended_at", "published", "decided", "coverage")
        print_json([{"run": name, **{key: each[key] for key in keys}} for name, each in found])
        return
    for name, each in found:
        findings = sum(each["counts"].get(str(outcome), 0) for outcome in FINDINGS)
        sys.stdout.write(f"{name}  {each['verdict']:<13}{each['decided']:>9} decided{findings:>7} findings\n")


def _compare(wired: Wiring, asked: Asked) -> Result:
    planned = "until it passes" if asked.seconds is None else f"for {asked.seconds:g} s"
    sys.stderr.write(f"comparing legacy and supabase {planned}\n")
    if not sys.stderr.isatty():
        return asyncio.run(compare_live(wired, asked))

    def progress(comparison: LiveComparison, passed: float) -> None:
        session = comparison.session
        decided = sum(session.counts.values()) if session else 0
        found = sum(session.counts[outcome] for outcome in FINDINGS) if session else 0
        if comparison.ending or (asked.seconds is not None and passed > asked.seconds):
            text = f"deciding the last of {decided} events, {found} findings"
        else:
            whole = f" of {asked.seconds:g}" if asked.seconds is not None else ""
            text = f"{passed:.0f}{whole} s, {decided} decided, {found} findings"
        sys.stderr.write(f"\r{text:<70}")
        sys.stderr.flush()

    try:
        return asyncio.run(compare_live(wired, asked, progress))
    finally:
        sys.stderr.write(f"\r{'':<70}\r")


def _finish(
    wired: Wiring,
    result: Result,
    said: Mapping[str, str],
    format_: ReportFormat,
    out: Path | None,
    privacy: Privacy,
) -> None:
    """Keep the run, show it, and end with its exit status."""
    kept = {**to_json(result, privacy, said), "text": to_text(result, privacy)}
    name = keep(wired.data, kept, result.ended_at)
    problem = asyncio.run(write_rows(wired.data, wired.settings, name, kept))
    _write(result, {**said, "run": name}, format_, out, privacy)
    if problem is not None:
        sys.stderr.write(f"kept as {name}, but not in the database: {problem}\n")
    raise typer.Exit(result.exit_code)


def _write(
    result: Result, said: Mapping[str, str], format_: ReportFormat, out: Path | None, privacy: Privacy
) -> None:
    _put(_formed(to_json(result, privacy, said), to_text(result, privacy, said), format_), out)


def _formed(found: Mapping[str, Any], text: str, format_: ReportFormat) -> str | Mapping[str, Any]:
    match format_:
        case ReportFormat.TEXT:
            return text
        case ReportFormat.JSON:
            return {name: value for name, value in found.items() if name != "text"}
        case ReportFormat.JUNIT:
            return to_junit(found)
        case ReportFormat.HTML:
            return to_html(found)


def _put(made: str | Mapping[str, Any], out: Path | None) -> None:
    if out is None:
        if isinstance(made, str):
            sys.stdout.write(made)
        else:
            print_json(made)
        return
    try:
        out.write_bytes(
            made.encode() if isinstance(made, str) else orjson.dumps(made, option=orjson.OPT_INDENT_2)
        )
    except OSError as error:
        raise UsageError(f"{out} cannot be written: {error.strerror}") from error


def _version() -> str:
    try:
        return importlib.metadata.version("crossfade")
    except importlib.metadata.PackageNotFoundError:
        return "0 (not installed)"
