"""Signing in to a Supabase project as one of its users, and renewing what it gives out for it.

By the official client: there is no other that keeps up with what a hosted project answers.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from monitoring.control import ActionFailed, SignInNeeded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from supabase_auth.types import AuthResponse

    from supabase import Client

_ANSWER_SECONDS = 5.0
_SERVER_ERRORS = 500


@dataclass(frozen=True, slots=True)
class Granted:
    """What a project gives out: the token, and what the next one is asked for with."""

    token: str = field(repr=False)
    renewal: str = field(repr=False)


def with_password(url: str, key: str, email: str, password: str) -> Granted:
    """Return what an address and a password of the project are good for; raises ActionFailed."""
    with _asked(url, key, f"does not let {email} in") as client:
        answer = client.auth.sign_in_with_password({"email": email, "password": password})
    return _granted(url, answer)


def renewed(url: str, key: str, renewal: str) -> Granted:
    """Return what follows; raises SignInNeeded when the project refuses, or ActionFailed when it does not answer."""
    with _asked(url, key, "does not renew the session") as client:
        answer = client.auth.refresh_session(renewal)
    return _granted(url, answer)


@contextlib.contextmanager
def _asked(url: str, key: str, refusal: str) -> Iterator[Client]:
    from supabase_auth.errors import AuthRetryableError  # noqa: PLC0415 - as above

    from supabase import AuthError, ClientOptions, create_client  # noqa: PLC0415 - it takes most of a second

    with httpx.Client(timeout=_ANSWER_SECONDS) as http:
        # the client would renew by itself, in a thread, and what it was given last would count no more
        options = ClientOptions(auto_refresh_token=False, persist_session=False, httpx_client=http)
        try:
            yield create_client(url, key, options)
        except AuthRetryableError as error:
            raise ActionFailed(f"{url} does not answer: {error.message}") from error
        except AuthError as error:
            status = getattr(error, "status", None)
            if isinstance(status, int) and status >= _SERVER_ERRORS:
                raise ActionFailed(f"{url} cannot answer: {error.message}") from error
            raise SignInNeeded(f"{url} {refusal}: {error.message}") from error
        except httpx.HTTPError as error:
            raise ActionFailed(f"{url} does not answer: {error}") from error


def _granted(url: str, answer: AuthResponse) -> Granted:
    if answer.session is None:
        raise ActionFailed(f"{url} asks for more than a password; sign in with a token")
    return Granted(answer.session.access_token, answer.session.refresh_token)
