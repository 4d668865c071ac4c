"""The control service's client: what people and agents ask of it, and every foreign answer and error translated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from crossfade.errors import CrossfadeError

_ANSWER_SECONDS = 20.0
_CONNECT_SECONDS = 3.0


class ControlFailed(CrossfadeError):  # noqa: N818 - named for what it is
    """The control service did not do what it was asked. ``status`` is the HTTP status, None when nobody answered."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status

    @property
    def again(self) -> bool:
        """Whether the same may be answered later."""
        return self.status is None or self.status >= 500 or self.status in {408, 429}  # noqa: PLR2004 - RFC 9110


class ControlClient:
    """Asks one control service with the token of one user or agent; enter it with ``async with``."""

    def __init__(self, url: str, access_token: Callable[[], str], *, what: str = "control service") -> None:
        """Ask the service at a URL; ``what`` it is, for people."""
        self.url = url.rstrip("/")
        self._what = what
        self._access_token = access_token
        self._http = httpx.AsyncClient(timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def get(self, path: str, **query: object) -> Any:
        """Return what is at a path; raises ControlFailed."""
        return await self._send("GET", path, params={k: str(v) for k, v in query.items() if v is not None})

    async def post(self, path: str, body: Mapping[str, Any], **headers: str) -> Any:
        """Have something done, and return what became of it; raises ControlFailed."""
        return await self._send("POST", path, content=orjson.dumps(body), headers=headers)

    async def _send(self, method: str, path: str, **given: Any) -> Any:
        headers = {
            "Authorization": f"Bearer {self._access_token()}",
            "Content-Type": "application/json",
            **given.pop("headers", {}),
        }
        try:
            answer = await self._http.request(method, self.url + path, headers=headers, **given)
            told = orjson.loads(answer.content)
        except httpx.HTTPError as error:
            raise ControlFailed(
                f"the {self._what} at {self.url} does not answer: {str(error) or type(error).__name__}; is it on? "
                f"(crossfade up{' --with control' if self._what == 'control service' else ''})"
            ) from error
        except orjson.JSONDecodeError:
            raise ControlFailed(
                f"{self.url} answers with HTTP {answer.status_code} and no JSON; is it a {self._what}?",
                answer.status_code,
            ) from None
        if answer.is_error:
            detail = told.get("detail") if isinstance(told, dict) else None
            raise ControlFailed(
                str(detail or f"HTTP {answer.status_code} from {self.url}"), answer.status_code
            )
        return told
