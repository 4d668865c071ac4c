"""Where our libraries' log lines go: to stderr, never among a command's output; all in one form.

``CROSSFADE_LOG_FORMAT`` is ``pretty`` (a line for people) or ``json`` (an object a line). Under the supervisor each line names
its part, and while a request is answered its ``request_id``.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING

import orjson
import structlog

if TYPE_CHECKING:
    from structlog.typing import EventDict, Processor, WrappedLogger

FORMAT, PART = "CROSSFADE_LOG_FORMAT", "CROSSFADE_PART"
"""Variables that the supervisor sets for its parts."""


def to_stderr(level: int = logging.WARNING) -> None:
    """Send log lines of this process to stderr, from a level on; structlog's and the standard library's alike."""
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _name_part,
    ]
    as_json = os.environ.get(FORMAT) == "json"
    renderer: list[Processor] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(serializer=_json)]
        if as_json
        else [
            structlog.dev.ConsoleRenderer(
                colors=False,
                pad_event_to=0,
                pad_level=False,
                exception_formatter=structlog.dev.plain_traceback,
            )
        ]
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # a line per request is for debugging httpx
    logging.getLogger("asyncssh").setLevel(logging.WARNING)  # a dozen lines a cycle and device
    # The official client logs each lost connection as an error; the adapter on top of it says what matters, once.
    logging.getLogger("realtime").setLevel(level if level < logging.INFO else logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def _name_part(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    if part := os.environ.get(PART):
        line["part"] = part
    return line


def _json(line: EventDict, default: object = None, **_: object) -> str:
    del default
    return orjson.dumps(line, default=str).decode()
