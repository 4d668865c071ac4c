"""A webhook on loopback: keeps what it was told, and when; refuses while it is told to."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


class Webhook:
    """A server of its own thread; ``told`` are (monotonic time, JSON body), in order."""

    def __init__(self) -> None:
        self.told: list[tuple[float, dict[str, Any]]] = []
        self.refused = 0
        self.works = True
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.works:
                    outer.told.append((time.monotonic(), json.loads(body)))
                else:
                    outer.refused += 1
                self.send_response(200 if outer.works else 503)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Its address as apprise has it."""
        return f"json://127.0.0.1:{self._server.server_address[1]}/hook"

    @property
    def titles(self) -> list[str]:
        return [body["title"] for _, body in self.told]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
