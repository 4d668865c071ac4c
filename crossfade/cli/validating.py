"""What the commands of ``crossfade validate`` share: options, errors, the installation that is compared."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.errors import AdapterError
from crossfade import logs
from crossfade.cli.options import wiring
from crossfade.errors import ComparisonFailed, CrossfadeError, UsageError
from crossfade.plan import running_state
from monitoring.errors import MonitoringError
from validation.errors import ValidationError
from validation.recordings import MAX_LINE_BYTES
from validation.report import Privacy

if TYPE_CHECKING:
    from crossfade.wiring import Wiring

_OURS = (AdapterError, CrossfadeError, MonitoringError, ValidationError)


class ReportFormat(StrEnum):
    """The forms of a report."""

    TEXT = "text"
    JSON = "json"
    JUNIT = "junit"
    HTML = "html"


ReportFormatOption = Annotated[ReportFormat, typer.Option("--format", help="The form of the report.")]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE", help="Write the report there instead.", show_default=False),
]
MinDecidedOption = Annotated[int, typer.Option(min=1, help="Events a PASS needs at least.")]
MinCoverageOption = Annotated[float, typer.Option(help="The share of events that must be decided.")]
RuleOutOption = Annotated[
    float | None,
    typer.Option(
        help="For a PASS, rule out so large a share of findings (95 %, at any look).", show_default=False
    ),
]
RulesOption = Annotated[
    Path | None,
    typer.Option("--rules", metavar="FILE", help="Which fields may differ, and how.", show_default=False),
]
OnlyKeysOption = Annotated[bool, typer.Option("--only-keys", help="Show findings without any value.")]
RedactOption = Annotated[
    list[str] | None,
    typer.Option(
        "--redact", metavar="WORD", help="Hide values at paths with this word; repeat.", show_default=False
    ),
]
TopicsOption = Annotated[
    list[str] | None,
    typer.Option("--topic", metavar="TOPIC", help="Compare only this topic; repeat.", show_default=False),
]


@contextlib.contextmanager
def errors() -> Iterator[None]:
    """Make every error a comparison that could not be made: exit status 1 means that a difference was found."""
    try:
        yield
    except UsageError:
        raise
    except _OURS as error:
        raise ComparisonFailed(str(error)) from error


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Iterator[bytes]]:
    """Open a recording; yields its lines, each cut at what a line may have."""
    try:
        with path.open("rb") as file:
            yield iter(lambda: file.readline(MAX_LINE_BYTES), b"")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def running(data_dir: Path | None) -> Wiring:
    """Return the wiring of an installation that runs; raises UsageError."""
    wired = wiring(data_dir)
    if running_state(wired.data) is None:
        raise UsageError(
            f"nothing runs on {wired.data.root}; start crossfade up, or name its data directory (--data-dir, CROSSFADE_DATA_DIR)"
        )
    logs.to_stderr(logging.ERROR)
    return wired


def privacy(only_keys: bool, redact: list[str] | None) -> Privacy:
    """Return what a report may show."""
    return Privacy(only_keys, tuple(redact or ()))
