"""The dashboard as a part: ``python -m crossfade.dashboard``.

Streamlit's application, served as our services are: ``streamlit run`` has no way to add a header.
"""

from __future__ import annotations

import argparse
import ast
import base64
import contextlib
import hashlib
import importlib
import logging
import re
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit
import uvicorn
from starlette.middleware import Middleware
from streamlit import config

from crossfade import hosting, logs, packaged
from crossfade.errors import CrossfadeError
from services.headers import SECURE, SecureHeaders

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from starlette.types import ASGIApp

_INLINE = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_PREPARE_AFTER_SECONDS = 3.0
"""While all parts start, each wants the processor."""
_SERVED_BY = ("adapters.legacy_websocket", "adapters.supabase_realtime", "adapters.http_polling")
_MAX_MESSAGE_BYTES = 4 << 20
"""Of what a browser sends: the state of a page's widgets."""


def policy(page: str) -> str:
    """Return the Content-Security-Policy under which Streamlit's page works, and nothing comes from elsewhere.

    Scripts are Streamlit's files and those in the page itself, by their hash (CSP Level 3, 2.3.1). Styles are made while
    the page is drawn (Emotion), and need their ``unsafe-inline``. What a monitored machine says is shown as text; should
    some of it become an image all the same, this keeps it from being fetched from anywhere.
    """
    hashes = [hashlib.sha256(found.encode()).digest() for found in _INLINE.findall(page)]
    scripts = " ".join(f"'sha256-{base64.b64encode(each).decode()}'" for each in hashes)
    return "; ".join(
        (
            "default-src 'self'",
            f"script-src 'self' {scripts}".rstrip(),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'self'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


def create_app(script: Path, host: str, port: int) -> ASGIApp:
    """Return Streamlit's application of a script, with secure headers around it."""
    page = Path(streamlit.__file__).with_name("static") / "index.html"
    headers = {**SECURE, "Content-Security-Policy": policy(page.read_text("utf-8"))}
    around = [Middleware(SecureHeaders, headers=headers, pages=())]

    @contextlib.asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        _let_lines_be_ours()
        preparing = threading.Timer(_PREPARE_AFTER_SECONDS, prepare, (script,))
        preparing.daemon = True
        preparing.start()
        yield
        preparing.cancel()

    app: ASGIApp = streamlit.App(script, middleware=around, lifespan=lifespan)
    # As `streamlit run` takes its options; after the application is made, which says where the script's own settings are.
    options = {
        "server.address": host,
        "server.port": port,
        "server.headless": True,
        "server.fileWatcherType": "none",
        "browser.gatherUsageStats": False,
    }
    config.get_config_options(force_reparse=True, options_from_flags=options)
    return app


def prepare(script: Path) -> None:
    """Import what a script imports, and what its first picture comes through: nobody then waits for it at the first page.

    What cannot be imported is left to the script, which says so where it is seen.
    """
    for name in (*imported(script.read_text("utf-8")), *_SERVED_BY):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def imported(text: str) -> Sequence[str]:
    """Return the modules that a script imports at its top; a name from a package may be one, too."""
    found: list[str] = []
    for each in ast.parse(text).body:
        if isinstance(each, ast.Import):
            found += (alias.name for alias in each.names)
        elif isinstance(each, ast.ImportFrom) and each.module:
            found += (each.module, *(f"{each.module}.{alias.name}" for alias in each.names))
    return found


def _let_lines_be_ours() -> None:
    """Let log lines go where those of every part go; once Streamlit has read its settings it gives them a form of its own."""
    for name, logger in logging.Logger.manager.loggerDict.items():
        own = getattr(logger, "streamlit_console_handler", None)
        if isinstance(logger, logging.Logger) and own is not None:
            logger.removeHandler(own)
            logger.propagate = name != "uvicorn.access"  # no line for every file of a page


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m crossfade.dashboard", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8003)
    parser.add_argument(
        "--script", type=Path, metavar="PATH", help="what Streamlit runs (default: the dashboard)"
    )
    given = parser.parse_args(arguments)
    logs.to_stderr(logging.INFO)
    try:
        script = given.script or packaged.dashboard_script()
    except CrossfadeError as error:
        sys.stderr.write(f"dashboard: {error}\n")
        return 1
    served = uvicorn.Config(
        create_app(script, given.host, given.port),
        host=given.host,
        port=given.port,
        lifespan="on",
        ws="websockets-sansio",
        ws_max_size=_MAX_MESSAGE_BYTES,
        **hosting.common(),
    )
    return hosting.serve(served)


if __name__ == "__main__":
    sys.exit(main())
