"""The people of a Supabase project: users with a role in Crossfade, kept through the project's auth endpoint.

The embedded Supabase, a hosted and a self-hosted project have the same endpoint; each takes its own secret key.
"""

from __future__ import annotations

import contextlib
import itertools
import secrets
from typing import TYPE_CHECKING, Any

import httpx

from crossfade.errors import CrossfadeError, UsageError
from crossfade.plan import known_addresses
from crossfade.wiring import embedded_keys

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from supabase_auth import AsyncGoTrueAdminAPI
    from supabase_auth.types import User

    from crossfade.wiring import Role, Wiring

ROLE = "crossfade_role"
"""The claim in ``app_metadata``, which only the project's owner can write."""
_NAME = "crossfade_name"
_PAGE = 200
_PASSWORD_BYTES = 15
_REFUSED = frozenset({401, 403})


class Accounts:
    """Whoever may sign in to a project."""

    def __init__(self, admin: AsyncGoTrueAdminAPI) -> None:
        self._admin = admin

    async def all(self) -> list[User]:
        """Return every user of the project, also those without a role."""
        users: list[User] = []
        for number in itertools.count(1):
            page = await self._admin.list_users(page=number, per_page=_PAGE)
            users += page
            if len(page) < _PAGE:
                break
        return users

    async def add(
        self, email: str, role: Role, password: str | None = None, *, mark: str | None = None
    ) -> str:
        """Make a user with a role and return the password, which is made when none is given.

        ``mark`` is set in ``app_metadata``, for whoever wants to know such users again.
        """
        chosen = password or secrets.token_urlsafe(_PASSWORD_BYTES)
        kept: dict[str, Any] = {ROLE: role.value, _NAME: email, **({mark: True} if mark else {})}
        await self._admin.create_user(
            {"email": email, "password": chosen, "email_confirm": True, "app_metadata": kept}
        )
        return chosen

    async def set_role(self, user: User, role: Role | None) -> None:
        """Change what a user may do; it holds when they sign in the next time."""
        await self._admin.update_user_by_id(
            user.id, {"app_metadata": {ROLE: role.value if role is not None else None}}
        )

    async def remove(self, user: User) -> None:
        """Let a user in no more; what they have open ends within the hour."""
        await self._admin.delete_user(user.id)

    async def known(self, email: str) -> User:
        """Return the user with an address; raises UsageError."""
        user = next((user for user in await self.all() if user.email == email.lower()), None)
        if user is None:
            raise UsageError(f"there is no user {email}; crossfade users list shows who there is")
        return user


@contextlib.asynccontextmanager
async def accounts(url: str, secret_key: str) -> AsyncIterator[Accounts]:
    """Open the accounts of a project with its secret (or service_role) key.

    Whatever its auth endpoint refuses within the block is a CrossfadeError that says so.
    """
    from supabase import AuthError, create_async_client  # noqa: PLC0415 - it takes most of a second to import

    try:
        client = await create_async_client(url, secret_key)
        yield Accounts(client.auth.admin)
    except AuthError as error:
        hint = "; it takes the project's secret (or service_role) key" if _status(error) in _REFUSED else ""
        raise CrossfadeError(f"{url} refused: {' '.join(str(error).split())}{hint}") from error
    except httpx.HTTPError as error:
        raise CrossfadeError(f"{url} does not answer; is it running? ({error})") from error


def secret_of(wired: Wiring) -> tuple[str, str]:
    """Return the URL and the secret key of an installation's project; raises CrossfadeError."""
    if wired.settings.hosted:
        wired.settings.require_complete()
        url, key, _ = wired.supabase()
        return url, key
    return known_addresses(wired.data, wired.settings).supabase, embedded_keys(wired.data).service_role_key


def _status(error: Any) -> int | None:
    status = getattr(error, "status", None)
    return status if isinstance(status, int) else None
