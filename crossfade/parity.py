"""The live comparison as a part: ``python -m crossfade.parity``.

Compares both backends with the spool, and what clients report with it, while the stage in force of any cohort is one of
shadow, live and rampdown: before, Supabase serves and is opened by nobody; afterwards there is nothing to compare with.
The newest summary is written to ``run/parity.json`` every two seconds. When it cannot go on it says why and ends; its
supervisor starts it again.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from adapters.errors import AdapterError
from adapters.spool_reader import SpoolReaders
from crossfade import logs
from crossfade.client_views import client_views
from crossfade.errors import CrossfadeError, exit_status
from crossfade.paths import DataDir, read_json, write_json
from crossfade.settings import load_settings
from crossfade.wiring import Wiring
from monitoring.errors import MonitoringError
from monitoring.events import format_time
from monitoring.flags.stages import Stage
from monitoring.service import PUSHING
from validation.errors import ValidationError
from validation.limits import Limits
from validation.runner import LiveComparison, utc_now
from validation.terms import Resumption, Terms

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from adapters.flag_file import FlagFile
    from monitoring.flags.model import Flags

EVERY_SECONDS = 2.0
_KEPT_SECONDS = 30.0
"""So long a restart may take for the comparison to go on at its place: of what was before, a backend may have no history."""
_OURS = (AdapterError, CrossfadeError, MonitoringError, ValidationError)

_log = logging.getLogger("crossfade.parity")


async def follow(wiring: Wiring, flags: FlagFile) -> NoReturn:
    """Compare whenever the stages in force ask for it, until cancelled; raises what ends a comparison."""
    changed = asyncio.Event()
    end_listening = flags.listen(changed.set)
    stood = _stood(wiring.data.parity_state)
    try:
        while True:
            changed.clear()
            if not compared(flags.current()):
                _publish(wiring.data.parity, idle(flags.current()))
                stood = _without_place(wiring.data.parity_state)
                await _until(changed, EVERY_SECONDS)
                continue
            comparing = asyncio.ensure_future(
                compare(wiring, flags, stood)
            )  # owned: ended with the loop's turn
            try:
                while compared(flags.current()) and not comparing.done():
                    changed.clear()
                    await asyncio.wait(
                        {comparing, waiting := asyncio.ensure_future(changed.wait())},
                        return_when=asyncio.FIRST_COMPLETED,
                    )
                    waiting.cancel()
            finally:
                comparing.cancel()
                await asyncio.wait({comparing})
            if not comparing.cancelled():
                comparing.result()
    finally:
        end_listening()


def compared(flags: Flags) -> bool:
    """Tell whether any cohort's stage in force is one that is compared."""
    return any(
        Stage.SHADOW.rank <= each.stage.rank <= Stage.RAMPDOWN.rank for each in flags.extents().values()
    )


def idle(flags: Flags) -> dict[str, Any]:
    """Return the summary while nothing is compared."""
    stages = ", ".join(sorted({str(each.stage) for each in flags.extents().values()}))
    return {
        "state": "idle",
        "updated_at": format_time(utc_now()),
        "reason": f"nothing is compared in stage {stages}; it begins with shadow and ends with rampdown",
    }


async def compare(wiring: Wiring, flags: FlagFile, resume: Resumption | None) -> None:
    """Compare until cancelled; raises what ends the comparison."""
    data = wiring.data
    truth = SpoolReaders(data.spool, data.query_spool, data.alerts_spool)
    # Other machines may write to the same Supabase; the spool here knows nothing of their streams.
    terms = Terms(Limits(truth_is_complete=False), clients_seconds=wiring.settings.rollout_block_seconds)
    views = client_views(data.client_reports, flags.current)
    comparison = LiveComparison(truth, terms=terms, resume=resume, clients=views)
    services = {side: wiring.connect_backend(side, comparison.on_raw(side)) for side in PUSHING}

    async def publish(summary: dict[str, Any]) -> None:
        _publish(data.parity, summary)
        if comparison.session is not None:
            _publish(data.parity_state, comparison.session.resumption.to_json())

    try:
        await comparison.follow(services, publish, every_seconds=EVERY_SECONDS)
    finally:
        for service in services.values():
            await service.close()
        truth.close()


def _publish(path: Path, value: Mapping[str, Any]) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, value)
    except OSError as error:  # a full disk is the spool's to say; here the last summary just gets old
        _log.warning("%s cannot be written: %s", path, error.strerror)


async def _until(event: asyncio.Event, seconds: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def _without_place(path: Path) -> Resumption | None:
    """Let go of where the comparison stood, but not of what it had learnt: what passes meanwhile is not compared."""
    stood = _stood(path)
    if stood is None or stood.cursor is None:
        return stood
    stood = replace(stood, cursor=None)
    _publish(path, stood.to_json())
    return stood


def _stood(path: Path) -> Resumption | None:
    """Return where an earlier life of this part stood; None when it is not known: then it begins anew."""
    value = read_json(path)
    if value is None:
        return None
    try:
        stood = Resumption.from_json(value)
        fresh = time.time() - path.stat().st_mtime <= _KEPT_SECONDS
    except (MonitoringError, ValidationError, OSError, KeyError, TypeError, AttributeError) as error:
        _log.warning("%s cannot be read, so the comparison begins anew: %s", path, error)
        return None
    return stood if fresh else replace(stood, cursor=None)


async def _run(wiring: Wiring) -> None:
    flags = wiring.flags()
    await asyncio.to_thread(flags.refresh)
    watching = asyncio.ensure_future(flags.run())  # owned: ended with the part
    following = asyncio.ensure_future(follow(wiring, flags))
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, following.cancel)
    try:
        await following
    except asyncio.CancelledError:
        pass
    finally:
        watching.cancel()
        await asyncio.wait({watching})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part; return 0 after a stop, 1 with one line about what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m crossfade.parity", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="D")
    given = parser.parse_args(arguments)
    logs.to_stderr(logging.INFO)

    def run() -> None:
        asyncio.run(_run(Wiring(DataDir.of(given.data_dir), load_settings())))

    return exit_status("parity", run, _OURS)


if __name__ == "__main__":
    sys.exit(main())
