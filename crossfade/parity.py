"""The live comparison as a part: ``python -m crossfade.parity``.

Compares both backends with the spool for as long as it runs, and writes the newest summary to ``run/parity.json``
every two seconds. When it cannot go on it says why and ends; its supervisor starts it again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from adapters.errors import AdapterError
from adapters.spool import SpoolReader
from crossfade import logs
from crossfade.errors import CrossfadeError, first_of
from crossfade.paths import DataDir, write_json
from crossfade.settings import load_settings
from crossfade.wiring import Wiring
from monitoring.errors import MonitoringError
from monitoring.service import Backend
from validation.alignment import Limits
from validation.errors import ValidationError
from validation.runner import LiveComparison

if TYPE_CHECKING:
    from collections.abc import Sequence

EVERY_SECONDS = 2.0
_OURS = (AdapterError, CrossfadeError, MonitoringError, ValidationError)

_log = logging.getLogger("crossfade.parity")


async def compare(wiring: Wiring) -> None:
    """Compare until cancelled; raises what ends the comparison."""
    truth = SpoolReader(wiring.data.spool)
    # Other machines may write to the same Supabase; the spool here knows nothing of their streams.
    comparison = LiveComparison(truth, limits=Limits(truth_is_complete=False))
    services = {side: wiring.connect_backend(side, comparison.on_raw(side)) for side in Backend}

    async def publish(summary: dict[str, Any]) -> None:
        try:
            write_json(wiring.data.parity, summary)
        except OSError as error:  # a full disk is the spool's to say; here the last summary just gets old
            _log.warning("%s cannot be written: %s", wiring.data.parity, error.strerror)

    try:
        await comparison.follow(services, publish, every_seconds=EVERY_SECONDS)
    finally:
        for service in services.values():
            await service.close()
        truth.close()


async def _run(wiring: Wiring) -> None:
    comparing = asyncio.ensure_future(compare(wiring))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, comparing.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await comparing


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part; return 0 after a stop, 1 with one line about what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m crossfade.parity", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="D")
    given = parser.parse_args(arguments)
    logs.to_stderr(logging.INFO)
    try:
        asyncio.run(_run(Wiring(DataDir.of(given.data_dir), load_settings())))
    except (*_OURS, ExceptionGroup) as raised:
        error = first_of(raised, _OURS)
        if error is None:
            raise
        sys.stderr.write(f"parity: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
