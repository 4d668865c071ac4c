"""``crossfade stages``: what each stage of the migration means."""

from __future__ import annotations

from dataclasses import asdict

import typer

from crossfade.cli.options import Format, FormatOption
from crossfade.cli.output import print_json
from monitoring.flags.stages import MEANINGS


def stages(format_: FormatOption = Format.TEXT) -> None:
    """Say for each stage of the migration who publishes, who answers, what is compared, and how to go back."""
    if format_ is Format.JSON:
        print_json({"stages": [{"stage": stage, **asdict(meaning)} for stage, meaning in MEANINGS.items()]})
        return
    for stage, meaning in MEANINGS.items():
        typer.echo(stage)
        for what, text in asdict(meaning).items():
            typer.echo(f"  {what:<10} {text}")
