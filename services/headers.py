"""Headers that every answer has: what a browser must not do with it (OWASP Secure Headers, REST Security)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURE = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_OVER_TLS = {"Strict-Transport-Security": "max-age=31536000"}
_PAGES = ("/docs", "/redoc")
"""Pages of FastAPI, which load their script from elsewhere."""


class SecureHeaders:
    """ASGI middleware that adds what an answer has not said itself."""

    def __init__(
        self, app: ASGIApp, headers: Mapping[str, str] = SECURE, pages: Iterable[str] = _PAGES
    ) -> None:
        """Add ``headers``; below the paths ``pages`` without what a page may load."""
        self._app = app
        self._headers = headers
        self._pages = tuple(pages)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        wanted = {**self._headers, **_OVER_TLS} if scope.get("scheme") == "https" else self._headers
        is_page = scope["path"].startswith(self._pages)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in wanted.items():
                    if not (is_page and name == "Content-Security-Policy"):
                        headers.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, told)
