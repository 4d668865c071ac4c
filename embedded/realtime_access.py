"""What the database knows about subscriptions: which tables are published, who may read what, which rows.

Every question is one round trip, asked for a whole join or a whole transaction. Failures of the connection are
retried until PostgreSQL is back (it is one machine, it comes back); the callers are tasks that can be cancelled.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar
from weakref import WeakValueDictionary

import asyncpg

from embedded.phoenix import matching
from embedded.phoenix.matching import ColumnType, Condition
from embedded.realtime_bindings import Resolved, resolve
from embedded.realtime_faults import raise_if_transient, raise_unless_transient

if TYPE_CHECKING:
    from embedded.phoenix.bindings import Binding
    from embedded.phoenix.filters import Filter

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_POOL_SIZE: Final = 4
_STATEMENT_SECONDS: Final = 10.0
"""After this the connection is given up and the question asked anew."""
_SERVER_SECONDS: Final = 5
"""After this PostgreSQL itself ends a statement, say of a policy that hangs; that is not asked again."""
_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
Reader = tuple[str, str]
"""Who looks at a row: a role and the claims of its token as JSON text."""

_ACCESS: Final = """
select r.name, c.relrowsecurity,
  c.relrowsecurity and not (g.rolbypassrls or g.rolsuper
    or (not c.relforcerowsecurity and pg_has_role(g.oid, c.relowner, 'USAGE'))),
  array(select a.attname::text from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          and has_column_privilege(g.oid, c.oid, a.attnum, 'SELECT')),
  array(select a.attname::text from pg_attribute a
        where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and c.relrowsecurity
          and exists (
            select from pg_policy p
            where p.polrelid = c.oid and p.polcmd in ('r', '*') and (
              p.polqual::text like '%:varattno 0 %' or exists (
                select from pg_depend d
                where d.classid = 'pg_policy'::regclass and d.objid = p.oid
                  and d.refclassid = 'pg_class'::regclass and d.refobjid = c.oid and d.refobjsubid = a.attnum)))
        order by a.attnum)
from pg_class c, unnest($2::text[]) r(name) join pg_roles g on g.rolname = r.name
where c.oid = $1::oid
"""

# The policies are evaluated on the values of the change, not looked up in the table: the stream can be ahead of
# what other transactions see (a commit is sent when it is flushed, visible a moment later), and behind it (the row
# was changed again or deleted meanwhile). Either would lose an event to somebody who may have it.
#
# pg_get_expr qualifies every name when search_path is empty, and calls columns by the table's name; the rows are
# given under that name. A temporary function, so that nothing of ours is left in the user's database.
_VISIBLE_FUNCTION: Final = """
create or replace function pg_temp.realtime_visible(
  relation oid, columns text[], rows jsonb, roles text[], claims text[]
) returns table (seen int[], problem text) language plpgsql as $function$
declare
  path constant text := current_setting('search_path');
  source text;
  permissive text;
  restrictive text;
  asked text;  -- whose policies those are: many readers share a role
begin
  select format(
    'select coalesce(array_agg("realtime: position"), ''{}'') from'
    ' (select (e.n - 1)::int as "realtime: position"%s from jsonb_array_elements($1) with ordinality e(v, n)) as %I',
    (select string_agg(
        format(', (e.v ->> %s)::%s as %I', w.i - 1, format_type(a.atttypid, a.atttypmod), a.attname), '' order by w.i)
     from unnest(columns) with ordinality w(name, i)
     join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = w.name),
    c.relname)
  into source from pg_catalog.pg_class c where c.oid = relation;
  for position in 1 .. cardinality(roles) loop
    begin
      if asked is distinct from roles[position] then
        perform set_config('search_path', '', true);
        select string_agg(pg_get_expr(p.polqual, p.polrelid), ' or ') filter (where p.polpermissive),
          string_agg(pg_get_expr(p.polqual, p.polrelid), ' and ') filter (where not p.polpermissive)
        into permissive, restrictive
        from pg_catalog.pg_policy p
        where p.polrelid = relation and p.polcmd in ('r', '*') and (
          0::oid = any (p.polroles)
          or exists (select from unnest(p.polroles) o(id) where pg_has_role(roles[position]::name, o.id, 'USAGE')));
        asked := roles[position];
      end if;
      perform set_config('search_path', path, true), set_config('role', roles[position], true),
        set_config('request.jwt.claims', claims[position], true);
      execute format(
        '%s where (%s) and (%s)', source, coalesce(permissive, 'false'), coalesce(restrictive, 'true')
      ) into seen using rows;
      problem := null;
    exception when others then
      seen := '{}';
      problem := sqlerrm;
    end;
    seen := coalesce(seen, '{}');
    return next;
    perform set_config('search_path', path, true), set_config('role', 'none', true);
  end loop;
end
$function$
"""


# Large values that an UPDATE left alone are not in the stream. Whether the row is seen before or after the change does
# not matter, as the value is the same; a row that is gone has none.
_CURRENT_FUNCTION: Final = """
create or replace function pg_temp.realtime_current(
  relation oid, keys text[], columns text[], wanted jsonb
) returns setof jsonb language plpgsql as $function$
begin
  return query execute (
    select format(
      'select (select to_jsonb(array[%s]) from %s t where %s) from jsonb_array_elements($1) with ordinality e(v, n)'
      ' order by e.n',
      (select string_agg(format('t.%I::text', w.name), ', ' order by w.i)
       from unnest(columns) with ordinality w(name, i)),
      relation::regclass,
      (select string_agg(
          format('t.%I = (e.v ->> %s)::%s', w.name, w.i - 1, format_type(a.atttypid, a.atttypmod)), ' and ')
       from unnest(keys) with ordinality w(name, i)
       join pg_catalog.pg_attribute a on a.attrelid = relation and a.attname = w.name))
  ) using wanted;
end
$function$
"""


@dataclass(frozen=True, slots=True)
class Access:
    """What a role may see of a table.

    `row_security` says that the table has it, `checked` that it holds for this role; `policy_columns` are the
    columns that its policies for reading look at, of whichever role.
    """

    readable: frozenset[str]
    row_security: bool
    checked: bool
    policy_columns: tuple[str, ...]


NO_ACCESS: Final = Access(frozenset(), row_security=False, checked=False, policy_columns=())
"""Of a table or role that does not exist any more."""


class Database:
    """Questions to one database. Close it with `close`; `dsn` needs a user that may become every API role."""

    def __init__(self, dsn: str, publication: str) -> None:
        self._dsn = dsn
        self._publication = publication
        self._pool: asyncpg.Pool | None = None
        self._opening = asyncio.Lock()
        # equal filters are one object, so that the feed tests each value once however many ask
        self._conditions: WeakValueDictionary[tuple[Filter, ColumnType], Condition] = WeakValueDictionary()
        self.failures = 0
        """How often a question had to be repeated because the connection failed."""

    async def close(self) -> None:
        """Close all connections at once."""
        if self._pool is not None:
            self._pool.terminate()
            self._pool = None

    async def resolve(self, wanted: Sequence[Binding], role: str) -> tuple[Resolved, ...]:
        """Return the bindings of one join, checked; raises BadSubscription if any of them cannot be."""

        async def ask(connection: Any) -> tuple[Resolved, ...]:
            return await resolve(connection, self._publication, wanted, role, self._compiled)

        return await self._ask(ask)

    def _compiled(self, wanted: Filter, column: ColumnType) -> Condition:
        found = self._conditions.get((wanted, column))
        if found is None:
            found = self._conditions[wanted, column] = matching.compile_filter(wanted, column)
        return found

    async def access(self, relation_oid: int, roles: Iterable[str]) -> dict[str, Access]:
        """Return what each of the roles may see of a table; unknown roles see nothing."""
        names = list(roles)

        async def ask(connection: Any) -> dict[str, Access]:
            rows = await connection.fetch(_ACCESS, relation_oid, names)
            known = {
                name: Access(frozenset(readable), row_security, checked, tuple(columns))
                for name, row_security, checked, readable, columns in rows
            }
            return {name: known.get(name, NO_ACCESS) for name in names}

        return await self._ask(ask)

    async def visible(
        self,
        relation_oid: int,
        columns: Sequence[str],
        rows: Sequence[Sequence[str | None]],
        readers: Sequence[Reader],
    ) -> list[frozenset[int]]:
        """Return for each reader which of the rows (by position) its policies show.

        A row is the texts of the columns that the policies look at. A policy that raises shows nothing; it is logged.
        """
        values = json.dumps([list(row) for row in rows], ensure_ascii=False)
        roles, claims = [role for role, _ in readers], [text for _, text in readers]

        async def ask(connection: Any) -> list[frozenset[int]]:
            answers = await connection.fetch(
                "select seen, problem from pg_temp.realtime_visible($1::oid, $2, $3::jsonb, $4, $5)",
                relation_oid,
                list(columns),
                values,
                roles,
                claims,
            )
            for (role, _), (_, problem) in zip(readers, answers, strict=True):
                if problem is not None:
                    _log.warning("A row policy failed for role %s: %s; it hides the rows.", role, problem)
            return [frozenset(seen) for seen, _ in answers]

        return await self._ask(ask)

    async def current(
        self,
        relation_oid: int,
        keys: Sequence[str],
        columns: Sequence[str],
        rows: Sequence[Sequence[str | None]],
    ) -> list[list[str | None] | None]:
        """Return the texts of these columns, for each row by the values of its `keys`; None for a row that is gone.

        A table that cannot be asked any more (it was dropped or altered since) counts as empty.
        """
        wanted = json.dumps([list(row) for row in rows], ensure_ascii=False)

        async def ask(connection: Any) -> list[list[str | None] | None]:
            try:
                found = await connection.fetch(
                    "select pg_temp.realtime_current($1::oid, $2, $3, $4::jsonb)",
                    relation_oid,
                    list(keys),
                    list(columns),
                    wanted,
                )
            except asyncpg.PostgresError as error:
                raise_if_transient(error)
                _log.warning("Large values of table %d cannot be looked up: %s", relation_oid, error)
                return [None] * len(rows)
            return [None if row[0] is None else json.loads(row[0]) for row in found]

        return await self._ask(ask)

    async def evaluate(self, condition: Condition, values: Sequence[str | None]) -> list[bool]:
        """Return which of the values satisfy a condition that only SQL can decide.

        A condition that PostgreSQL refuses for some value (a pattern that ends in its escape) holds for none: one
        client's filter must not stop the others' changes. It is logged.
        """

        async def ask(connection: Any) -> list[bool]:
            # the expression is ours; the client's literal travels as a parameter
            statement = (
                f"select coalesce({condition.sql}, false)"  # noqa: S608
                " from unnest($1::text[]) with ordinality u(v, n) order by u.n"
            )
            try:
                rows = await connection.fetch(statement, list(values), condition.argument)
            except asyncpg.PostgresError as error:
                raise_if_transient(error)
                _log.warning("A filter on column %s cannot be evaluated: %s", condition.column, error)
                return [False] * len(values)
            return [row[0] for row in rows]

        return await self._ask(ask)

    async def ask(self, question: Callable[[Any], Awaitable[_T]]) -> _T:
        """Put another part's question, on a connection of the pool that it must leave as it finds it."""
        return await self._ask(question)

    async def _ask(self, question: Callable[[Any], Awaitable[_T]]) -> _T:
        """Ask on a connection of the pool, again and again while PostgreSQL cannot be reached."""
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                pool = await self._open()
                async with pool.acquire(timeout=_STATEMENT_SECONDS) as connection:
                    try:
                        return await question(connection)
                    except asyncpg.InternalClientError:
                        # what asyncpg makes of a server that ends in the middle of an answer
                        connection.terminate()
                        raise
            except (
                OSError,
                TimeoutError,
                asyncpg.InterfaceError,
                asyncpg.InternalClientError,
                asyncpg.PostgresError,
            ) as error:
                if isinstance(error, asyncpg.PostgresError):
                    raise_unless_transient(error)
                self.failures += 1
                _log.debug("PostgreSQL did not answer (%s); asking again in %.2f s.", error, pause)
            await asyncio.sleep(pause)
            pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)

    async def _open(self) -> Any:
        async with self._opening:
            if self._pool is None:
                self._pool = await asyncpg.create_pool(
                    self._dsn,
                    min_size=0,
                    max_size=_POOL_SIZE,
                    command_timeout=_STATEMENT_SECONDS,
                    init=_prepare,
                    reset=_leave_as_it_is,
                    # values are compared as the replication stream prints them
                    server_settings={
                        "application_name": "realtime",
                        "timezone": "UTC",
                        "datestyle": "ISO, MDY",
                        "intervalstyle": "postgres",
                        "jit": "off",
                        "statement_timeout": f"{_SERVER_SECONDS}s",
                    },
                )
            return self._pool


async def _prepare(connection: Any) -> None:
    await connection.execute(f"{_VISIBLE_FUNCTION};{_CURRENT_FUNCTION}")


async def _leave_as_it_is(connection: Any) -> None:
    """Save the round trip of asyncpg's reset: all we set ends with its transaction."""
