"""Private channels: what the policies on `realtime.messages` let a token receive and send.

A question is tried out, not worked out: probe rows are written and read as the token's role, with `realtime.topic()`
and the claims set, inside a subtransaction that is always undone. So every policy counts that PostgreSQL itself
would apply, functions and joins and all. One round trip for each question.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from embedded.phoenix.errors import JoinRefused
from embedded.realtime_broadcast import ChannelPolicies, Permissions

if TYPE_CHECKING:
    from embedded.phoenix.channel import Token
    from embedded.realtime_access import Database

_log = logging.getLogger(__name__)

_ANSWER_SECONDS: Final = 8.0
"""Clients give up a join after ten."""
_NO_PARTITION: Final = "23514"

# Reading: the owner writes a probe, the role looks for it. Writing: the role writes one. A role without the grant, or
# that the policies refuse, gets insufficient_privilege. Undoing the subtransaction gives back role and settings too.
# A temporary function, so that nothing of ours is left in the user's database.
_FUNCTION: Final = """
create or replace function pg_temp.realtime_permissions(
  writing boolean, wanted_topic text, wanted_role text, claims text, subject text
) returns table (extension text, allowed boolean, state text, problem text) language plpgsql as $function$
declare
  probe uuid;
begin
  foreach extension in array array['broadcast', 'presence'] loop
    allowed := false;
    state := null;
    problem := null;
    probe := gen_random_uuid();
    begin
      perform set_config('realtime.topic', wanted_topic, true),
        set_config('request.jwt.claims', claims, true),
        set_config('request.jwt.claim.sub', subject, true),
        set_config('request.jwt.claim.role', wanted_role, true),
        set_config('request.headers', '{}', true);
      if writing then
        perform set_config('role', wanted_role, true);
      end if;
      insert into realtime.messages (id, topic, extension, private) values (probe, wanted_topic, extension, true);
      if writing then
        allowed := true;
      else
        perform set_config('role', wanted_role, true);
        allowed := exists (select from realtime.messages m where m.id = probe and m.topic = wanted_topic);
      end if;
      raise exception using errcode = 'CF001';
    exception
      when sqlstate 'CF001' then
        null;
      when insufficient_privilege then
        allowed := false;
      when others then
        allowed := false;
        state := sqlstate;
        problem := sqlerrm;
    end;
    return next;
  end loop;
end
$function$
"""
_QUESTION: Final = "select * from pg_temp.realtime_permissions($1, $2, $3, $4, $5)"


class DatabasePolicies(ChannelPolicies):
    """Asks the database that `database` speaks with, as a user who owns or may bypass `realtime.messages`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def read(self, token: Token, topic: str) -> Permissions:
        """Return what the token may receive; raises JoinRefused if it cannot be said."""
        return await self._permissions(token, topic, writing=False)

    async def write(self, token: Token, topic: str) -> Permissions:
        """Return what the token may send; a policy that fails lets nothing through."""
        return await self._permissions(token, topic, writing=True)

    async def _permissions(self, token: Token, topic: str, *, writing: bool) -> Permissions:
        subject = json.loads(token.claims).get("sub")
        arguments = (
            writing,
            topic,
            token.role,
            token.claims,
            subject if isinstance(subject, str) else "",
        )

        async def ask(connection: Any) -> list[asyncpg.Record]:
            try:
                return await _try_out(connection, arguments)
            except asyncpg.QueryCanceledError:
                _log.warning("A policy on realtime.messages took too long for the topic %s.", topic)
                # ours, so that the same question is not put again
                raise JoinRefused("Query was cancelled, please try again") from None

        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                rows = await self._database.ask(ask)
        except TimeoutError:
            raise JoinRefused(
                "UnableToConnectToProject: Realtime was unable to connect to the project database"
            ) from None
        except asyncpg.PostgresError as error:
            _log.warning("The policies of the topic %s could not be asked: %s", topic, error)
            raise JoinRefused("Realtime was unable to connect to the project database") from error
        _refuse_problems(rows, topic, writing=writing)
        allowed = {row["extension"]: row["allowed"] for row in rows}
        return Permissions(broadcast=allowed["broadcast"], presence=allowed["presence"])


async def _try_out(connection: Any, arguments: tuple[bool, str, str, str, str]) -> list[asyncpg.Record]:
    """Ask, after making what the question needs: the function on a new connection, a partition for today."""
    try:
        rows = await _answers(connection, arguments)
    except asyncpg.UndefinedFunctionError:
        await connection.execute(_FUNCTION)
        rows = await _answers(connection, arguments)
    if any(row["state"] == _NO_PARTITION for row in rows):
        await connection.execute("select realtime.maintain_messages()")
        rows = await _answers(connection, arguments)
    return rows


async def _answers(connection: Any, arguments: tuple[bool, str, str, str, str]) -> list[asyncpg.Record]:
    rows: list[asyncpg.Record] = await connection.fetch(_QUESTION, *arguments)
    return rows


def _refuse_problems(rows: list[asyncpg.Record], topic: str, *, writing: bool) -> None:
    """Say what is wrong with the policies; it is fatal only if nothing at all may be read because of it."""
    problems = [(row["state"], row["problem"]) for row in rows if row["problem"] is not None]
    for state, problem in problems:
        _log.warning("A policy on realtime.messages failed for the topic %s: %s (%s).", topic, problem, state)
    if len(problems) == len(rows) and not writing:
        if problems[0][0] == _NO_PARTITION:
            raise JoinRefused("MissingPartition: Realtime was unable to find the expected messages partition")
        raise JoinRefused("Realtime was unable to connect to the project database")
