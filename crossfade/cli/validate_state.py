"""``crossfade validate state``: the snapshots of both backends, field by field, now."""

from __future__ import annotations

import asyncio
import sys

import typer

from crossfade.cli.options import DataDirOption, Format, FormatOption
from crossfade.cli.output import print_json
from crossfade.cli.validating import (
    OnlyKeysOption,
    RedactOption,
    RulesOption,
    TopicsOption,
    errors,
    privacy,
    running,
)
from crossfade.comparing import compare_states, read_rules
from validation.report import states_json, states_text
from validation.states import verdict_of
from validation.verdict import EXIT_CODES


def state(
    topic: TopicsOption = None,
    rules: RulesOption = None,
    format_: FormatOption = Format.TEXT,
    only_keys: OnlyKeysOption = False,
    redact: RedactOption = None,
    data_dir: DataDirOption = None,
) -> None:
    """Compare the state that a new client would begin with on both backends; exit as `live` does."""
    with errors():
        shown = privacy(only_keys, redact)
        result = asyncio.run(compare_states(running(data_dir), tuple(topic or ["global"]), read_rules(rules)))
    verdict = verdict_of(result)
    if format_ is Format.JSON:
        print_json({"verdict": str(verdict), **states_json(result, shown)})
    else:
        sys.stdout.write(
            f"{verdict}: {result.problem or result.finding or 'what was compared is the same'}\n"
        )
        sys.stdout.writelines(f"{line}\n" for line in states_text(result, shown))
    raise typer.Exit(EXIT_CODES[verdict])
