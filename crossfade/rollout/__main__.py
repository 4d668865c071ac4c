"""The rollout controller as a part: ``python -m crossfade.rollout``.

It also tells the database which paths the stages want published, and mirrors the journal and the audit of the flags there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from adapters.database_url import asyncpg_url
from adapters.errors import AdapterError
from crossfade import logs
from crossfade.errors import CrossfadeError
from crossfade.paths import DataDir
from crossfade.rollout.controller import Controller, Setting
from crossfade.rollout.mirror import Mirror
from crossfade.settings import load_settings
from crossfade.wiring import open_flags
from monitoring.capacity import PLANS

if TYPE_CHECKING:
    from collections.abc import Sequence


async def _run(controller: Controller, mirror: Mirror | None) -> None:
    running = asyncio.ensure_future(controller.run())
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await running
    if mirror is not None:
        await mirror.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part until it is told to stop; return 0, or 1 with one line about what is wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m crossfade.rollout", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--data-dir", type=Path, required=True, metavar="D")
    parser.add_argument("--flags", type=Path, required=True, metavar="PATH")
    given = parser.parse_args(arguments)
    logs.to_stderr(logging.INFO)
    try:
        settings, data = load_settings(), DataDir.of(given.data_dir)
        url = os.environ.get("DATABASE_URL", "")
        mirror = Mirror(asyncpg_url(url), data) if url else None
        flags = open_flags(data, given.flags, settings.switches)
        setting = Setting(PLANS[settings.plan], settings.realtime_mode or "changes")
        asyncio.run(_run(Controller(data, flags, setting, mirror), mirror))
    except (AdapterError, CrossfadeError) as error:
        sys.stderr.write(f"rollout: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
