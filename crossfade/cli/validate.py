"""``crossfade validate``: compare both paths."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from adapters.errors import AdapterError
from adapters.spool import SpoolReader
from crossfade import logs
from crossfade.cli.options import DataDirOption, Format, FormatOption, ForOption, wiring
from crossfade.cli.output import print_json
from crossfade.errors import ComparisonFailed, CrossfadeError, UsageError
from crossfade.plan import running_state
from monitoring.errors import MonitoringError
from monitoring.service import Backend
from validation.alignment import Limits
from validation.errors import ValidationError
from validation.report import to_json, to_text
from validation.result import Thresholds
from validation.runner import LiveComparison

if TYPE_CHECKING:
    from crossfade.wiring import Wiring
    from validation.result import Result

_DEFAULT_SECONDS = 30.0

app = typer.Typer(help="Compare what both backends deliver.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Compare what both backends deliver."""


@app.command("live")
def live(
    for_: ForOption = None,
    min_decided: Annotated[int, typer.Option(min=1, help="Events a PASS needs at least.")] = 10,
    format_: FormatOption = Format.TEXT,
    data_dir: DataDirOption = None,
) -> None:
    """Compare both backends live; exit 0 PASS, 1 FAIL, 2 error, 3 INCONCLUSIVE, 4 NO_DATA."""
    seconds = for_.total_seconds() if for_ else _DEFAULT_SECONDS
    try:
        wired = wiring(data_dir)
        if running_state(wired.data) is None:
            raise UsageError(f"nothing runs on {wired.data.root}; start crossfade up, or name its --data-dir")
        logs.to_stderr(logging.ERROR)
        result = asyncio.run(_compare(wired, seconds, Thresholds(min_decided=min_decided)))
    except (AdapterError, CrossfadeError, MonitoringError, ValidationError) as error:
        raise ComparisonFailed(str(error)) from error
    if format_ is Format.JSON:
        print_json(to_json(result))
    else:
        sys.stdout.write(to_text(result))
    raise typer.Exit(result.exit_code)


async def _compare(wired: Wiring, seconds: float, thresholds: Thresholds) -> Result:
    truth = SpoolReader(wired.data.spool)
    # Other machines may write to the same Supabase; the spool here knows nothing of their streams.
    comparison = LiveComparison(truth, limits=Limits(truth_is_complete=False), thresholds=thresholds)
    services = {side: wired.connect_backend(side, comparison.on_raw(side)) for side in Backend}
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, comparison.stop)
    progress = asyncio.ensure_future(_progress(seconds))
    try:
        return await comparison.run(services, seconds)
    finally:
        progress.cancel()
        await asyncio.gather(progress, return_exceptions=True)
        for service in services.values():
            await service.close()
        truth.close()


async def _progress(seconds: float) -> None:
    """Count on stderr, where it does not mix with the report."""
    sys.stderr.write(f"comparing legacy and supabase for {seconds:g} s\n")
    if not sys.stderr.isatty():
        return
    loop = asyncio.get_running_loop()
    started = loop.time()
    try:
        while True:
            passed = loop.time() - started
            text = f"{passed:.0f} of {seconds:g} s" if passed <= seconds else "deciding the last events"
            sys.stderr.write(f"\r{text:<40}")
            sys.stderr.flush()
            await asyncio.sleep(0.5)
    finally:
        sys.stderr.write(f"\r{'':<40}\r")
