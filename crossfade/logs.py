"""Where our libraries' log lines go: to stderr, never among a command's output."""

from __future__ import annotations

import logging
import sys

import structlog


def to_stderr(level: int = logging.WARNING) -> None:
    """Send log lines of this process to stderr, from a level on."""
    logging.basicConfig(
        stream=sys.stderr, level=level, format="%(asctime)s %(levelname)s %(message)s", force=True
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per request is for debugging httpx
    # The official client logs each lost connection as an error; the adapter on top of it says what matters, once.
    logging.getLogger("realtime").setLevel(level if level < logging.INFO else logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
