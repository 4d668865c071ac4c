"""The legacy server's own process: ``python -m legacy_ws``."""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
import uvloop

from legacy_ws.errors import LegacyError
from legacy_ws.mounts import parse_mounts
from legacy_ws.protocol.catalogue import catalogue
from legacy_ws.ring import MAX_BYTES, MAX_EVENTS
from legacy_ws.server import LegacyServer
from legacy_ws.token_file import read_token

log = structlog.get_logger("legacy_ws")


def log_to_stderr() -> None:
    """Write log lines as logfmt, for a server that is run by itself."""
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


def main(argv: Sequence[str] | None = None, *, configure_logs: Callable[[], None] = log_to_stderr) -> int:
    """Serve until SIGTERM or SIGINT. Returns 0, or 1 with one line on stderr when it cannot begin."""
    options = _parser().parse_args(argv)
    configure_logs()
    try:
        server = LegacyServer(
            token=read_token(options.token_file),
            host=options.host,
            port=options.port,
            mounts=parse_mounts(",".join(options.mount), catalogue()),
            stream_token=read_token(options.stream_token_file) if options.stream_token_file else None,
            container_prefix=options.container_prefix,
            max_clients=options.max_clients,
            export_dir=options.export_dir,
            max_events=options.max_events,
            max_bytes=options.max_bytes,
            max_queue=options.max_queue,
            fill_seconds=options.fill_seconds,
            links=options.links,
            polling_report=options.polling_report,
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


async def _serve(server: LegacyServer) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with server:
        log.info(
            "listening",
            url=server.url,
            link=server.link_url,
            mounts=",".join(map(str, server.mounts)) or "none",
            port=server.port,
        )
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
        "--mount",
        action="append",
        default=[],
        metavar="[HOST:]PORT/PATH=DIALECT",
        help=f"speak a dialect at another address too; repeatable, or separated by commas; dialects: {', '.join(catalogue())}",
    )
    parser.add_argument(
        "--stream-token-file", type=Path, help="file with the token of /ws/stream; without it nobody gets in"
    )
    parser.add_argument(
        "--container-prefix",
        default="",
        metavar="TEXT",
        help="what the short names of containers leave out, for example myproject-",
    )
    parser.add_argument(
        "--export-dir", type=Path, help="where exports are written; without it there are none"
    )
    parser.add_argument(
        "--max-clients", type=int, default=10_000, help="clients connected at once (default %(default)s)"
    )
    parser.add_argument(
        "--origin",
        action="append",
        default=[],
        metavar="URL",
        help="origin of web pages that may connect besides this machine's, https://HOST[:PORT], or null for files; repeatable",
    )
    parser.add_argument(
        "--max-events", type=int, default=MAX_EVENTS, help="events kept for replay (default %(default)s)"
    )
    parser.add_argument(
        "--max-bytes",
        type=int,
        default=MAX_BYTES,
        help="bytes of their payloads as JSON; memory takes about five times as much (default %(default)s)",
    )
    parser.add_argument(
        "--max-queue", type=int, default=1_000, help="messages one client may be behind (default %(default)s)"
    )
    parser.add_argument(
        "--fill-seconds",
        type=float,
        default=10.0,
        help="seconds after the start that subscribers wait for the links to refill the server (default %(default)s)",
    )
    parser.add_argument(
        "--links",
        type=int,
        default=1,
        metavar="N",
        help="how many links there are to refill it: collectors, pushes, alerts (default %(default)s)",
    )
    parser.add_argument(
        "--polling-report",
        type=Path,
        metavar="PATH",
        help="status file of the collector, for GET /health/polling",
    )
    return parser
