"""The legacy server's own process: ``python -m legacy_ws``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import structlog
import uvloop

from legacy_ws.errors import LegacyError, TokenUnreadable
from legacy_ws.server import LegacyServer

log = structlog.get_logger("legacy_ws")


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or 1 with one line on stderr when it cannot begin."""
    options = _parser().parse_args(argv)
    _log_to_stderr()
    try:
        token = read_token(options.token_file)
        server = LegacyServer(
            token=token,
            host=options.host,
            port=options.port,
            max_events=options.max_events,
            max_queue=options.max_queue,
            fill_seconds=options.fill_seconds,
            origins=options.origin,
        )
        uvloop.run(_serve(server))
    except LegacyError as error:
        print(f"legacy_ws: {error}", file=sys.stderr)  # noqa: T201 - the one line for whoever started us
        return 1
    except OSError as error:
        print(f"legacy_ws: cannot listen on {options.host}:{options.port}: {error}", file=sys.stderr)  # noqa: T201 - as above
        return 1
    return 0


def read_token(path: Path) -> str:
    """Return the link's secret; raises TokenUnreadable."""
    try:
        token = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not ASCII text"
        raise TokenUnreadable(str(path), reason) from error
    if not token or any(character.isspace() for character in token):
        raise TokenUnreadable(str(path), "it must hold one word")
    return token


async def _serve(server: LegacyServer) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with server:
        log.info("listening", url=server.url, link=server.link_url, port=server.port)
        await stop.wait()
        log.info("stopping", detail="draining clients")
    log.info("stopped")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="legacy_ws", description="The legacy monitoring WebSocket server.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8001, help="port to listen on, 0 for any (default %(default)s)"
    )
    parser.add_argument(
        "--token-file", type=Path, required=True, help="file with the secret of the collector's link"
    )
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="origin of web pages that may connect besides this machine's, https://HOST[:PORT], or null for files; repeatable",
    )
    parser.add_argument(
        "--max-events", type=int, default=20_000, help="events kept for replay (default %(default)s)"
    )
    parser.add_argument(
        "--max-queue", type=int, default=1_000, help="events one client may be behind (default %(default)s)"
    )
    parser.add_argument(
        "--fill-seconds",
        type=float,
        default=10.0,
        help="seconds after the start that subscribers wait for the link to refill the server (default %(default)s)",
    )
    return parser


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["timestamp", "level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
