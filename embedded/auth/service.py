"""What each request to the auth server does, on a `Store`; raises `AuthError`."""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from embedded.auth import errors, passwords
from embedded.auth.model import DEFAULT_ROLE, EMAIL_PROVIDER, Session, SignedIn, User, merged
from embedded.auth.requests import NO_BAN
from embedded.auth.tokens import ACCESS_SECONDS, RefreshToken, Rotation, access_token, parse_refresh_token

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from embedded.auth.requests import Credentials, UserChanges
    from embedded.auth.store import Store

_logger = logging.getLogger(__name__)

_HASHING_AT_ONCE: Final = 2
"""Each takes 16 MB and a core for 200 ms or more; the others wait."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Client:
    """From where somebody signs in; `issuer` is this server's own address as they see it."""

    issuer: str
    user_agent: str | None = None
    ip: str | None = None


class AuthService:
    """Signs people up, in and out, and administers users."""

    def __init__(
        self, store: Store, secret: str, *, signup_enabled: bool, clock: Callable[[], datetime] = _now
    ) -> None:
        self._store = store
        self._secret = secret
        self._clock = clock
        self.signup_enabled = signup_enabled
        self._hashing = asyncio.Semaphore(_HASHING_AT_ONCE)

    # -- signing in and out ------------------------------------------------------------------------------

    async def sign_up(self, credentials: Credentials, client: Client) -> SignedIn:
        """Add a user and sign it in; there is no e-mail here, so the address counts as confirmed."""
        if not self.signup_enabled:
            raise errors.signup_disabled()
        if await self._store.user_by_email(credentials.email) is not None:
            raise errors.already_registered()
        user_id, now = uuid.uuid4(), self._clock()
        metadata = {
            **credentials.user_metadata,
            "sub": str(user_id),
            "email": credentials.email,
            "email_verified": True,
            "phone_verified": False,
        }
        user = User(
            id=user_id,
            email=credentials.email,
            created_at=now,
            updated_at=now,
            password_hash=await self._hash(credentials.password),
            email_confirmed_at=now,
            app_metadata=_app_metadata({}),
            user_metadata=metadata,
        )
        try:
            await self._store.create(user)
        except errors.AuthError as error:
            raise (errors.already_registered() if error.code == "email_exists" else error) from error
        return await self._signed_in(user.id, client)

    async def sign_in(self, credentials: Credentials, client: Client) -> SignedIn:
        """Open a session for a user who knows the password."""
        user = await self._store.user_by_email(credentials.email)
        kept = user.password_hash if user is not None else None
        correct = await self._matches(credentials.password, kept)
        if user is None or not correct:
            if kept and not passwords.is_understood(kept):
                _logger.warning(
                    "User %s has a password hash of a kind that this server does not check (seed files bring bcrypt);"
                    " set the password with PUT /auth/v1/admin/users/%s.",
                    user and user.id,
                    user and user.id,
                )
            raise errors.invalid_credentials()
        if user.is_banned(self._clock()):
            raise errors.banned()
        if user.email_confirmed_at is None:
            raise errors.email_not_confirmed()
        return await self._signed_in(user.id, client)

    async def refresh(self, text: str, client: Client) -> SignedIn:
        """Renew a session; the token in `text` has to be its newest, with the leniency of `tokens.rotation`."""
        token = parse_refresh_token(text, self._secret)
        if token is None:
            raise errors.refresh_token_not_found()
        now = self._clock()
        before = await self._store.session(token.session_id)
        if before is None:
            raise errors.refresh_token_not_found()
        if before.not_after is not None and now > before.not_after:
            raise errors.session_expired()
        user = await self._store.user(before.user_id)
        if user is None:
            raise errors.refresh_token_not_found()
        if user.is_banned(now):
            raise errors.banned()
        renewal = await self._store.renew(token.session_id, token.counter, now)
        if renewal is None:
            raise errors.refresh_token_not_found()
        if renewal.outcome is Rotation.STOLEN:
            _logger.warning("A refresh token of session %s was used again; the session is ended.", before.id)
            raise errors.refresh_token_already_used()
        return self._answer(user, renewal.session, client)

    async def sign_out(self, claims: Mapping[str, Any], scope: str) -> None:
        """End sessions of whoever the token is of: all (global), this one (local), or all others."""
        user, session_id = await self.whoever(claims)
        match scope:
            case "global":
                await self._store.end_sessions(user.id)
            case "local" if session_id is not None:
                await self._store.end_sessions(user.id, only=session_id)
            case "others":
                await self._store.end_sessions(user.id, besides=session_id)
            case "local":
                return  # a token that no session of ours gave out
            case _:
                raise errors.invalid(f"Unsupported logout scope {scope!r}")

    async def _signed_in(self, user_id: uuid.UUID, client: Client) -> SignedIn:
        session = Session(uuid.uuid4(), user_id, self._clock())
        user = await self._store.open_session(session, user_agent=client.user_agent, ip=client.ip)
        return self._answer(user, session, client)

    def _answer(self, user: User, session: Session, client: Client) -> SignedIn:
        access, ends_at = access_token(
            user, session, secret=self._secret, issuer=client.issuer, now=self._clock()
        )
        refresh = RefreshToken(session.id, session.refresh_counter).text(self._secret)
        return SignedIn(user, access, refresh, ACCESS_SECONDS, ends_at)

    # -- oneself -------------------------------------------------------------------------------------------

    async def whoever(self, claims: Mapping[str, Any]) -> tuple[User, uuid.UUID | None]:
        """Return the user that a verified token's claims name, and the session that gave it out."""
        user_id, session_id = _claimed(claims, "sub"), _claimed(claims, "session_id")
        if user_id is None:
            raise errors.no_subject()
        if session_id is not None and await self._store.session(session_id) is None:
            raise errors.session_not_found()
        user = await self._store.user(user_id)
        if user is None:
            raise errors.subject_not_found()
        return user, session_id

    async def change_self(self, claims: Mapping[str, Any], changes: UserChanges) -> User:
        """Change address, password or metadata of the user itself."""
        user, session_id = await self.whoever(claims)
        if changes.password is not None and await self._matches(changes.password, user.password_hash):
            raise errors.same_password()
        return await self._change(user.id, changes, keep_session=session_id)

    # -- administration ------------------------------------------------------------------------------------

    async def users(self, page: int, per_page: int) -> tuple[list[User], int]:
        """Return a page of users and how many there are."""
        return await self._store.users(page, per_page)

    async def user(self, user_id: uuid.UUID) -> User:
        """Return a user."""
        user = await self._store.user(user_id)
        if user is None:
            raise errors.user_not_found()
        return user

    async def create(self, changes: UserChanges) -> User:
        """Add a user; who has no confirmed address cannot sign in yet."""
        if changes.email is None:
            raise errors.invalid("Cannot create a user without an email address")
        now = self._clock()
        user = User(
            id=changes.id or uuid.uuid4(),
            email=changes.email,
            created_at=now,
            updated_at=now,
            role=changes.role or DEFAULT_ROLE,
            password_hash=None if changes.password is None else await self._hash(changes.password),
            email_confirmed_at=now if changes.email_confirm else None,
            banned_until=now + changes.ban if changes.ban else None,
            app_metadata=merged(_app_metadata({}), changes.app_metadata),
            user_metadata={"email_verified": changes.email_confirm, **(changes.user_metadata or {})},
        )
        return await self._store.create(user)

    async def change(self, user_id: uuid.UUID, changes: UserChanges) -> User:
        """Change a user as its administrator."""
        return await self._change(user_id, changes)

    async def delete(self, user_id: uuid.UUID, *, softly: bool) -> None:
        """Remove a user; its access tokens live on until they end."""
        if not await self._store.delete(user_id, softly=softly, at=self._clock()):
            raise errors.user_not_found()

    async def _change(
        self, user_id: uuid.UUID, changes: UserChanges, *, keep_session: uuid.UUID | None = None
    ) -> User:
        now = self._clock()
        hashed = None if changes.password is None else await self._hash(changes.password)

        def change(user: User) -> User:
            return _changed(user, changes, password_hash=hashed, now=now)

        user = await self._store.change(user_id, change, keep_session=keep_session)
        if user is None:
            raise errors.user_not_found()
        return user

    # -- passwords -----------------------------------------------------------------------------------------

    async def _hash(self, password: str) -> str:
        async with self._hashing:
            return await asyncio.to_thread(passwords.hash_password, password)

    async def _matches(self, password: str, kept: str | None) -> bool:
        async with self._hashing:
            return await asyncio.to_thread(passwords.matches, password, kept)

    async def healthy(self) -> None:
        """Return if the database answers."""
        await self._store.answers()


def _changed(user: User, changes: UserChanges, *, password_hash: str | None, now: datetime) -> User:
    banned_until = user.banned_until
    if changes.ban is not None:
        banned_until = None if changes.ban == NO_BAN else now + changes.ban
    confirmed_at = user.email_confirmed_at
    if changes.email_confirm and confirmed_at is None:
        confirmed_at = now
    return replace(
        user,
        email=changes.email or user.email,
        password_hash=password_hash or user.password_hash,
        email_confirmed_at=confirmed_at,
        role=changes.role or user.role,
        user_metadata=merged(user.user_metadata, changes.user_metadata),
        app_metadata=merged(user.app_metadata, changes.app_metadata),
        banned_until=banned_until,
        updated_at=now,
    )


def _app_metadata(more: Mapping[str, Any]) -> dict[str, Any]:
    return {"provider": EMAIL_PROVIDER, "providers": [EMAIL_PROVIDER], **more}


def _claimed(claims: Mapping[str, Any], name: str) -> uuid.UUID | None:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        return None
    try:
        return uuid.UUID(value)
    except ValueError:
        raise errors.bad_jwt(f"claim {name} is not a uuid") from None
