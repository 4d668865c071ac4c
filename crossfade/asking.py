"""Asking the query service as the owner of the data directory, or as the user of a hosted project."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from crossfade import plan
from crossfade.errors import CrossfadeError
from crossfade.wiring import Role, UserToken, Wiring, embedded_keys

_ANSWER_SECONDS = 15.0


def ask(
    wired: Wiring,
    method: str,
    path: str,
    *,
    body: Any = None,
    query: Mapping[str, Any] | None = None,
    role: Role = Role.OPERATOR,
) -> dict[str, Any]:
    """Return what the query service answers, {} for nothing; raises CrossfadeError."""
    with asking(wired, method, path, body=body, query=query, role=role) as answer:
        answer.read()
        found: dict[str, Any] = answer.json() if answer.content else {}
        return found


@contextmanager
def asking(
    wired: Wiring,
    method: str,
    path: str,
    *,
    body: Any = None,
    query: Mapping[str, Any] | None = None,
    role: Role = Role.VIEWER,
) -> Iterator[httpx.Response]:
    """Yield the answer of the query service, whose body is still to come; raises CrossfadeError.

    ``path`` has no query of its own: that is ``query``.
    """
    url = plan.known_addresses(wired.data, wired.settings).query
    chosen = {name: value for name, value in (query or {}).items() if value is not None}
    try:
        with httpx.stream(
            method,
            url + path,
            json=body,
            params=chosen,
            headers={"Authorization": f"Bearer {_token(wired, role)}"},
            timeout=_ANSWER_SECONDS,
        ) as answer:
            if answer.is_error:
                answer.read()
                raise CrossfadeError(f"the query service refused: {_reason(answer)}")
            yield answer
    except httpx.HTTPError as error:
        raise CrossfadeError(
            f"the query service at {url} does not answer: {error}; see crossfade status{wired.data.option}"
        ) from None


def _token(wired: Wiring, role: Role) -> str:
    if wired.settings.hosted:
        _, key, given = wired.supabase()
        return given() if given else key
    return UserToken(embedded_keys(wired.data).jwt_secret, wired.client_id(), role)()


def _reason(answer: httpx.Response) -> str:
    try:
        found = answer.json()
    except ValueError:
        return str(answer.status_code)
    return str(found.get("detail", answer.status_code) if isinstance(found, dict) else answer.status_code)
