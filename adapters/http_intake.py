"""Hands events over to a query service: `monitoring.intake` by HTTP, for a thread of its own.

Blocking, and so never for an event loop that does anything else: at the end of a process asyncio can resolve no names
any more, for its threads have ended by then, and that is just when the last events go out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from monitoring.events import Draft, format_time
from monitoring.intake import Intake, Taken

_SECONDS = 5.0
_ACCEPTED = 202
_REFUSED_WHOLE = frozenset({400, 413, 422})
"""What is wrong with the request itself: events are then sent in halves, until the bad one is alone."""


class HttpIntake(Intake):
    """Open it with ``async with``. ``where`` returns the service's URL and a token that is valid now."""

    def __init__(self, where: Callable[[], tuple[str, str]]) -> None:
        self._where = where
        self._client = httpx.Client(timeout=_SECONDS)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    async def take(self, drafts: Sequence[Draft]) -> Sequence[Taken]:
        """Hand over each draft: see the port. Raises what ``where`` raises."""
        url, token = self._where()
        return self._take(url, token, drafts)

    def _take(self, url: str, token: str, drafts: Sequence[Draft]) -> Sequence[Taken]:
        try:
            answer = self._client.post(
                f"{url}/api/events",
                content=orjson.dumps({"events": [_json(draft) for draft in drafts]}),
                headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            )
        except (httpx.TransportError, httpx.InvalidURL) as error:
            reason = f"the query service at {url} cannot be reached: {error or type(error).__name__}"
            return [Taken(reason, again=True)] * len(drafts)
        if answer.status_code == _ACCEPTED:
            return _outcomes(answer, len(drafts))
        reason = f"the query service at {url} answered {answer.status_code}: {_detail(answer)}"
        if answer.status_code not in _REFUSED_WHOLE:
            return [Taken(reason, again=True)] * len(drafts)
        if len(drafts) == 1:
            return [Taken(reason)]
        middle = len(drafts) // 2
        first = self._take(url, token, drafts[:middle])
        late = next((taken for taken in first if taken.again), None)
        rest = [late] * (len(drafts) - middle) if late else self._take(url, token, drafts[middle:])
        return [*first, *rest]


def _json(draft: Draft) -> dict[str, Any]:
    return {
        "id": str(draft.id),
        "stream": draft.stream,
        "kind": draft.kind,
        "occurred_at": format_time(draft.occurred_at),
        "payload": draft.payload,
    }


def _outcomes(answer: httpx.Response, count: int) -> Sequence[Taken]:
    try:
        items = orjson.loads(answer.content)["items"]
        found = [Taken(item["reason"], again=item["again"], repeated=item["repeated"]) for item in items]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        found = []
    if len(found) != count:
        return [Taken("the answer is not one of a query service", again=True)] * count
    return found


def _detail(answer: httpx.Response) -> str:
    try:
        return str(orjson.loads(answer.content)["detail"])[:300]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return answer.reason_phrase or "no reason given"
