"""``crossfade validate selftest``: the comparison tested with known faults."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from crossfade.cli.options import Format, FormatOption
from crossfade.cli.output import print_json
from crossfade.cli.validating import errors, opened
from crossfade.comparing import FRAMES
from crossfade.errors import UsageError
from monitoring.service import PUSHING, Backend
from validation.faults import Fault
from validation.frames import read
from validation.selftest import RATES, SIDES, examine, synthetic


def selftest(
    directory: Annotated[
        Path | None,
        typer.Argument(
            metavar="[DIR]", help="A recording of real backends; else a made one.", show_default=False
        ),
    ] = None,
    fault: Annotated[
        list[Fault] | None, typer.Option("--fault", help="Only this fault; repeat.", show_default=False)
    ] = None,
    rate: Annotated[
        list[float] | None, typer.Option("--rate", help="Only at this rate; repeat.", show_default=False)
    ] = None,
    side: Annotated[
        list[Backend] | None,
        typer.Option("--side", help="Only on these sides, together.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(help="Chooses the victims.")] = 0,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Put known faults into a stream and say how many were found; exit 0 only if all were, and nothing else."""
    with errors():
        if any(not 0 < each <= 0.2 for each in rate or ()):  # noqa: PLR2004 - victims are never neighbours
            raise UsageError("a rate is above 0 and at most 0.2")
        if Backend.POLLING in (side or ()):
            raise UsageError(f"the sides are {' and '.join(PUSHING)}")
        if directory is None:
            frames = synthetic(streams=20, seconds=900.0, skew_seconds=2.0, seed=seed)
        else:
            with opened(directory / FRAMES) as lines:
                frames = list(read(lines))
        scores = []
        for score in examine(
            frames,
            faults=fault or tuple(Fault),
            rates=sorted(rate or RATES),
            sides=[tuple(side)] if side else SIDES,
            seed=seed,
        ):
            scores.append(score)
            if format_ is Format.TEXT:
                if len(scores) == 1:
                    sys.stdout.write(_SCORES_HEAD)
                trip = score.tripped_at_events
                sys.stdout.write(
                    f"{score.name:<14}{score.sides:<10}{score.rate:>8.2%}{score.injected:>10}{score.found:>8}{score.false:>7}"
                    f"{score.recall:>9.1%}{score.precision:>11.1%}  {score.expected:<17}"
                    f"{'-' if trip is None else trip:>8}{'' if score.holds else '  NOT FOUND'}\n"
                )
                sys.stdout.flush()
    held = all(score.holds for score in scores)
    if format_ is Format.JSON:
        print_json({"holds": held, "scores": [score.to_json() for score in scores]})
    else:
        sys.stdout.write(
            f"\n{'every fault was found, and nothing else' if held else 'the comparison does not hold'}\n"
        )
    raise typer.Exit(0 if held else 1)


_SCORES_HEAD = (
    f"{'fault':<14}{'side':<10}{'rate':>8}{'injected':>10}{'found':>8}{'false':>7}{'recall':>9}{'precision':>11}"
    f"  {'class':<17}{'trip at':>8}\n"
)
