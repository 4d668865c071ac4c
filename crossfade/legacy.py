"""The legacy WebSocket server as a part, with its log lines as those of every part: ``python -m crossfade.legacy``."""

from __future__ import annotations

import logging
import sys
from functools import partial
from typing import TYPE_CHECKING

from crossfade import logs
from legacy_ws import process

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit status."""
    return process.main(arguments, configure_logs=partial(logs.to_stderr, logging.INFO))


if __name__ == "__main__":
    sys.exit(main())
