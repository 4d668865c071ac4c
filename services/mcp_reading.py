"""What the MCP server reads: each question one statement, run as the caller, so that row level security decides."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from services.access import Caller
from services.asked import topics_of
from services.database import Database

MOST = 200
_DEVICES = """
select jsonb_build_object('devices', coalesce(jsonb_agg(to_jsonb(d) order by d.device), '[]'))
from (select * from public.cf_devices_latest where $1::text is null or device = $1 order by device limit $2) d
"""
_CONTAINERS = """
select jsonb_build_object('containers', coalesce(jsonb_agg(to_jsonb(c) order by c.device, c.name), '[]'))
from (
  select * from public.cf_containers_latest
  where ($1::text is null or device = $1) and (not $2::boolean or not running or health = 'unhealthy')
  order by device, name limit $3) c
"""
_ALERTS = """
select jsonb_build_object('alerts', coalesce(jsonb_agg(to_jsonb(a) - 'epoch' - 'seq' order by a.changed_at desc), '[]'))
from (
  select * from public.cf_alerts where ($1::boolean or state <> 'ok') and ($2::text is null or device = $2)
  order by changed_at desc limit $3) a
"""
_EVENTS = """
select jsonb_build_object('events', coalesce(jsonb_agg(jsonb_build_object('stream', e.stream, 'epoch', e.epoch,
  'seq', e.seq, 'kind', e.kind, 'occurred_at', e.occurred_at, 'payload', e.payload) order by e.recorded_at desc), '[]'))
from (
  select * from public.cf_events e
  where e.recorded_at > now() - make_interval(mins => $1) and ($2::text is null or e.device = $2)
    and ($3::text is null or e.category = $3) and ($4::text is null or e.kind = $4)
  order by e.recorded_at desc limit $5) e
"""
_MIGRATION = """
select jsonb_build_object(
  'delivery', (select to_jsonb(d) from public.cf_delivery d limit 1),
  'paths', (select to_jsonb(p) from public.cf_paths p limit 1),
  'rollout', (select coalesce(jsonb_agg(to_jsonb(j) - 'gates' order by j.at desc), '[]')
    from (select * from public.cf_rollout_journal order by at desc limit 20) j),
  'flag_changes', (select coalesce(jsonb_agg(to_jsonb(f) order by f.at desc), '[]')
    from (select * from public.cf_flags_audit order by at desc limit 20) f))
"""
_COMMANDS = """
select jsonb_build_object(
  'agents', (select coalesce(jsonb_agg(to_jsonb(a) - 'instance' order by a.name), '[]')
    from (select * from public.cf_agents order by name limit $1) a),
  'commands', (select coalesce(jsonb_agg(to_jsonb(c) - 'instance' order by c.submitted_at desc), '[]')
    from (select * from public.cf_commands order by submitted_at desc limit $1) c))
"""


@dataclass(frozen=True, slots=True)
class Reading:
    """Answers as plain JSON; every method raises Problem."""

    database: Database

    async def devices(self, caller: Caller, device: str | None) -> Any:
        """Return the newest status and figures of devices."""
        return await self._ask(caller, _DEVICES, device, MOST)

    async def containers(self, caller: Caller, device: str | None, *, unwell: bool) -> Any:
        """Return the newest state of containers; ``unwell``: of those alone that do not run, or are unhealthy."""
        return await self._ask(caller, _CONTAINERS, device, unwell, MOST)

    async def alerts(self, caller: Caller, device: str | None, *, resolved: bool) -> Any:
        """Return alerts, those that changed last first."""
        return await self._ask(caller, _ALERTS, resolved, device, MOST)

    async def events(
        self,
        caller: Caller,
        device: str | None,
        category: str | None,
        kind: str | None,
        minutes: int,
        limit: int,
    ) -> Any:
        """Return events, the newest first."""
        return await self._ask(caller, _EVENTS, minutes, device, category, kind, limit)

    async def metrics(self, caller: Caller, stream: str) -> Any:
        """Return the newest payloads of a stream's device, and which numbers of the stream there are series of."""
        topic = topics_of([f"devices.{stream.partition('/')[0]}"], "device")
        snapshot = await self._ask(caller, "select public.cf_snapshot($1)", topic)
        fields = await self._ask(caller, "select public.cf_fields($1)", stream)
        newest = [each for each in snapshot["state"] if each["stream"] == stream]
        return {"stream": stream, "newest": newest, "fields": fields}

    async def series(self, caller: Caller, stream: str, field: str, hours: float, points: int) -> Any:
        """Return a number over the last hours."""
        until = datetime.now(UTC)
        sql = "select public.cf_series($1, $2, $3, $4, $5)"
        return await self._ask(caller, sql, stream, field, until - timedelta(hours=hours), until, points)

    async def migration(self, caller: Caller) -> Any:
        """Return how far the migration is: modes, paths, what the rollout decided, who changed which flag."""
        return await self._ask(caller, _MIGRATION)

    async def commands(self, caller: Caller) -> Any:
        """Return the agents with what each offers, and the newest commands."""
        return await self._ask(caller, _COMMANDS, MOST // 4)

    async def _ask(self, caller: Caller, sql: str, *arguments: object) -> Any:
        return orjson.loads(await self.database.answer(caller, sql, *arguments))
