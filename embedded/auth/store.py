"""The tables of schema auth (bootstrap.sql), through a pool of connections as supabase_auth_admin."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import asyncpg

from embedded.auth import errors
from embedded.auth.model import AUDIENCE, DEFAULT_ROLE, EMAIL_PROVIDER, Identity, Session, User
from embedded.auth.tokens import Rotation, rotation

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping
    from typing import Self

_POOL_SIZE: Final = 4
_CONNECT_SECONDS: Final = 5.0
_STATEMENT_SECONDS: Final = 10.0
_CLOSE_SECONDS: Final = 2.0
_NO_INSTANCE: Final = "00000000-0000-0000-0000-000000000000"

_USER: Final = """
select u.id, u.aud, u.role, u.email, u.phone, u.encrypted_password, u.email_confirmed_at, u.phone_confirmed_at,
       u.last_sign_in_at, u.banned_until, u.deleted_at, u.created_at, u.updated_at, u.is_anonymous,
       u.raw_app_meta_data::text as app_metadata, u.raw_user_meta_data::text as user_metadata,
       (select jsonb_agg(to_jsonb(i) order by i.created_at, i.id) from auth.identities i where i.user_id = u.id)::text
         as identities
from auth.users u
"""
_INSERT_USER: Final = f"""
insert into auth.users (instance_id, id, aud, role, email, encrypted_password, email_confirmed_at, raw_app_meta_data,
                        raw_user_meta_data, banned_until, created_at, updated_at, confirmation_token, recovery_token,
                        email_change_token_new, email_change)
values ('{_NO_INSTANCE}', $1, $2, $3, $4, $5, $6, $7::jsonb, $8::jsonb, $9, $10, $11, '', '', '', '')
"""  # noqa: S608 - a constant
_INSERT_IDENTITY: Final = """
insert into auth.identities (provider_id, user_id, identity_data, provider, last_sign_in_at, created_at, updated_at)
values ($1, $2, $3::jsonb, $4, $5, $5, $5)
"""
_UPDATE_USER: Final = """
update auth.users set email = $2, encrypted_password = $3, email_confirmed_at = $4, raw_app_meta_data = $5::jsonb,
                      raw_user_meta_data = $6::jsonb, banned_until = $7, role = $8, updated_at = $9
where id = $1
"""
_UPDATE_IDENTITY: Final = """
update auth.identities set identity_data = identity_data || $2::jsonb, updated_at = $3
where user_id = $1 and provider = 'email'
"""
_OPEN_SESSION: Final = """
insert into auth.sessions (id, user_id, created_at, updated_at, aal, user_agent, ip)
values ($1, $2, $3, $3, 'aal1', $4, $5::text::inet)
"""
_SESSION: Final = """
select id, user_id, created_at, refresh_token_counter, refreshed_at, not_after from auth.sessions where id = $1
"""
# what PostgreSQL says, or becomes of the socket, when the server is away or going away
_AWAY: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,  # its disk fails
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What became of a refresh token: the session as it is now, and whether it was ended for it."""

    session: Session
    outcome: Rotation


class Store:
    """Reads and writes users and sessions; use as an async context manager.

    Everything raises `AuthError`: 503 while PostgreSQL cannot be reached, 422 for an address that is taken, 500 with
    PostgreSQL's words when a trigger or constraint of the application refuses.
    """

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._pool: Any = None

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(
            self._dsn,
            min_size=0,
            max_size=_POOL_SIZE,
            timeout=_CONNECT_SECONDS,
            command_timeout=_STATEMENT_SECONDS,
            server_settings={"application_name": "embedded_auth", "timezone": "UTC"},
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        pool, self._pool = self._pool, None
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await pool.close()
        except TimeoutError:
            pool.terminate()

    # -- users ---------------------------------------------------------------------------------------------

    async def user(self, user_id: UUID) -> User | None:
        """Return the user with this id."""
        return await self._one(f"{_USER} where u.id = $1 and u.deleted_at is null", user_id)

    async def user_by_email(self, email: str) -> User | None:
        """Return the user with this address, given in lower case."""
        return await self._one(
            f"{_USER} where u.email = $1 and not u.is_sso_user and u.deleted_at is null", email
        )

    async def users(self, page: int, per_page: int) -> tuple[list[User], int]:
        """Return a page (from 1) of all users, the newest first, and how many there are in all."""
        query = f"{_USER} where u.deleted_at is null order by u.created_at desc, u.id limit $1 offset $2"
        async with self._transaction() as connection:
            rows = await connection.fetch(query, per_page, (page - 1) * per_page)
            total = await connection.fetchval("select count(*) from auth.users where deleted_at is null")
        return [_user(row) for row in rows], total

    async def create(self, user: User) -> User:
        """Add a user with an identity for its address, and return it as triggers left it."""
        async with self._transaction() as connection:
            await connection.execute(
                _INSERT_USER,
                user.id,
                user.audience,
                user.role,
                user.email,
                user.password_hash,
                user.email_confirmed_at,
                _json(user.app_metadata),
                _json(user.user_metadata),
                user.banned_until,
                user.created_at,
                user.updated_at,
            )
            data = {
                "sub": str(user.id),
                "email": user.email,
                "email_verified": user.email_confirmed_at is not None,
                "phone_verified": False,
            }
            await connection.execute(
                _INSERT_IDENTITY, str(user.id), user.id, _json(data), EMAIL_PROVIDER, user.created_at
            )
            return _user(await connection.fetchrow(f"{_USER} where u.id = $1", user.id))

    async def change(
        self, user_id: UUID, change: Callable[[User], User], *, keep_session: UUID | None = None
    ) -> User | None:
        """Replace a user by what `change` makes of it, or return None when there is none.

        A new password ends all sessions but `keep_session`, as in hosted projects.
        """
        async with self._transaction() as connection:
            row = await connection.fetchrow(
                f"{_USER} where u.id = $1 and u.deleted_at is null for update of u", user_id
            )
            if row is None:
                return None
            before = _user(row)
            after = change(before)
            await connection.execute(
                _UPDATE_USER,
                user_id,
                after.email,
                after.password_hash,
                after.email_confirmed_at,
                _json(after.app_metadata),
                _json(after.user_metadata),
                after.banned_until,
                after.role,
                after.updated_at,
            )
            data = {"email": after.email, "email_verified": after.email_confirmed_at is not None}
            await connection.execute(_UPDATE_IDENTITY, user_id, _json(data), after.updated_at)
            if after.password_hash != before.password_hash:
                await connection.execute(
                    "delete from auth.sessions where user_id = $1 and id is distinct from $2",
                    user_id,
                    keep_session,
                )
            return _user(await connection.fetchrow(f"{_USER} where u.id = $1", user_id))

    async def delete(self, user_id: UUID, *, softly: bool, at: datetime) -> bool:
        """Remove a user and its sessions, or with `softly` all but the row itself; False when there is none."""
        async with self._transaction() as connection:
            if not softly:
                done = await connection.execute("delete from auth.users where id = $1", user_id)
                return bool(done != "DELETE 0")
            done = await connection.execute(
                "update auth.users set deleted_at = $2, updated_at = $2, email = null, phone = null,"
                " encrypted_password = null, raw_user_meta_data = '{}', raw_app_meta_data = '{}'"
                " where id = $1 and deleted_at is null",
                user_id,
                at,
            )
            await connection.execute("delete from auth.sessions where user_id = $1", user_id)
            await connection.execute("delete from auth.identities where user_id = $1", user_id)
            return bool(done != "UPDATE 0")

    # -- sessions --------------------------------------------------------------------------------------------

    async def open_session(self, session: Session, *, user_agent: str | None, ip: str | None) -> User:
        """Add a session and return its user, who has signed in just now."""
        async with self._transaction() as connection:
            await connection.execute(
                _OPEN_SESSION, session.id, session.user_id, session.created_at, user_agent, ip
            )
            await connection.execute(
                "update auth.users set last_sign_in_at = $2, updated_at = $2 where id = $1",
                session.user_id,
                session.created_at,
            )
            await connection.execute(
                "update auth.identities set last_sign_in_at = $2, updated_at = $2"
                " where user_id = $1 and provider = 'email'",
                session.user_id,
                session.created_at,
            )
            return _user(await connection.fetchrow(f"{_USER} where u.id = $1", session.user_id))

    async def session(self, session_id: UUID) -> Session | None:
        """Return a session that was not ended."""
        async with self._transaction() as connection:
            row = await connection.fetchrow(_SESSION, session_id)
        return None if row is None else _session(row)

    async def renew(self, session_id: UUID, counter: int, at: datetime) -> Renewal | None:
        """Use a refresh token: move its session's counter on, leave it, or end the session; None when there is none."""
        async with self._transaction() as connection:
            row = await connection.fetchrow(f"{_SESSION} for update", session_id)
            if row is None:
                return None
            found = _session(row)
            outcome = rotation(counter, found, at)
            if outcome is Rotation.STOLEN:
                await connection.execute("delete from auth.sessions where id = $1", session_id)
            elif outcome is Rotation.RENEW:
                row = await connection.fetchrow(
                    "update auth.sessions set refresh_token_counter = refresh_token_counter + 1, refreshed_at = $2,"
                    " updated_at = $2 where id = $1"
                    " returning id, user_id, created_at, refresh_token_counter, refreshed_at, not_after",
                    session_id,
                    at,
                )
                found = _session(row)
            return Renewal(found, outcome)

    async def end_sessions(
        self, user_id: UUID, *, only: UUID | None = None, besides: UUID | None = None
    ) -> None:
        """End a user's sessions: all, `only` that one, or all `besides` one."""
        async with self._transaction() as connection:
            await connection.execute(
                "delete from auth.sessions where user_id = $1 and ($2::uuid is null or id = $2)"
                " and id is distinct from $3::uuid",
                user_id,
                only,
                besides,
            )

    # -- the connection ------------------------------------------------------------------------------------

    async def answers(self) -> None:
        """Return if PostgreSQL answers."""
        async with self._transaction() as connection:
            await connection.fetchval("select 1 from auth.users limit 1")

    async def _one(self, query: str, argument: object) -> User | None:
        async with self._transaction() as connection:
            row = await connection.fetchrow(query, argument)
        return None if row is None else _user(row)

    @contextlib.asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Any]:
        """Hold a connection in a transaction; what goes wrong with either becomes an `AuthError`."""
        try:
            async with self._pool.acquire(timeout=_CONNECT_SECONDS) as connection, connection.transaction():
                yield connection
        except asyncpg.UniqueViolationError as error:
            if error.constraint_name in {"users_email_partial_key", "users_pkey"}:
                raise errors.email_exists() from error
            raise errors.database_refused(_one_line(error)) from error
        except _AWAY as error:
            raise errors.database_away(_one_line(error)) from error
        except asyncpg.PostgresError as error:
            raise errors.database_refused(_one_line(error)) from error


def _user(row: Mapping[str, Any]) -> User:
    """Read a row; users of seed files may lack what we always write."""
    created_at = row["created_at"] or row["updated_at"] or datetime.fromtimestamp(0, tz=UTC)
    return User(
        id=row["id"],
        email=row["email"] or None,
        created_at=created_at,
        updated_at=row["updated_at"] or created_at,
        role=row["role"] or DEFAULT_ROLE,
        audience=row["aud"] or AUDIENCE,
        phone=row["phone"] or None,
        password_hash=row["encrypted_password"] or None,
        email_confirmed_at=row["email_confirmed_at"],
        phone_confirmed_at=row["phone_confirmed_at"],
        last_sign_in_at=row["last_sign_in_at"],
        banned_until=row["banned_until"],
        deleted_at=row["deleted_at"],
        app_metadata=_object(row["app_metadata"]),
        user_metadata=_object(row["user_metadata"]),
        anonymous=row["is_anonymous"],
        identities=tuple(_identity(found) for found in json.loads(row["identities"] or "[]")),
    )


def _identity(found: Mapping[str, Any]) -> Identity:
    def at(name: str) -> datetime | None:
        return None if found[name] is None else datetime.fromisoformat(found[name])

    return Identity(
        id=UUID(found["id"]),
        user_id=UUID(found["user_id"]),
        provider_id=found["provider_id"],
        provider=found["provider"],
        data=found["identity_data"],
        created_at=at("created_at"),
        updated_at=at("updated_at"),
        last_sign_in_at=at("last_sign_in_at"),
    )


def _session(row: Mapping[str, Any]) -> Session:
    return Session(
        id=row["id"],
        user_id=row["user_id"],
        created_at=row["created_at"],
        refresh_counter=row["refresh_token_counter"],
        refreshed_at=row["refreshed_at"],
        not_after=row["not_after"],
    )


def _object(text: str | None) -> Mapping[str, Any]:
    found = json.loads(text or "{}")
    return found if isinstance(found, dict) else {}


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(dict(value), ensure_ascii=False)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
