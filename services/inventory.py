"""What there is by HTTP: devices and applications, containers, sessions, each as it was heard of last."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import orjson
from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.conditional import conditional
from services.documents import problems
from services.events import DeviceQuery, ProjectQuery
from services.feed import Here, Reader
from services.paging import LimitQuery, NextQuery, page, place_of
from services.problems import Kind, Problem
from services.ranges import device_of, text_of

router = APIRouter(tags=["inventory"], responses=problems(400, 401, 403, 503))

_NOT_CHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "nothing has changed"}}

_DEVICES_SQL = """
with heard as (
  select device, array_agg(category order by category) as categories, max(updated_at) as heard_at
  from public.cf_stream_heads where device <> 'crossfade' group by device
), known as (
  select device from heard union select device from public.cf_devices union select device from public.cf_devices_latest
), page as (
  select k.device, coalesce(h.categories, '{}') as categories, h.heard_at,
    coalesce(h.categories && '{sessions,connections,semaphores,requests}'
      and not h.categories && '{system,containers,drives}', false) as application,
    l.hostname, coalesce(l.status, 'unknown') as status, l.cpu_usage, l.memory_usage, l.sampled_at, l.status_changed_at,
    r.host, r.port, r.monitoring_enabled, r.description,
    (select count(*) from public.cf_containers_latest c where c.device = k.device) as containers,
    (select count(*) from public.cf_containers_latest c where c.device = k.device and c.running) as containers_running,
    (select count(*) from public.cf_sessions_latest s where s.device = k.device) as sessions,
    array(select p.name from public.cf_project_members m join public.cf_projects p on p.id = m.project
      where m.device = k.device and p.archived_at is null order by p.name) as projects
  from known k left join heard h using (device) left join public.cf_devices_latest l using (device)
  left join (select device, host, port, monitoring_enabled, description from public.cf_devices) as r using (device)
  where ($1::text is null or k.device > $1) and ($2::text is null or k.device = $2)
    and ($3::uuid is null or k.device in (select m.device from public.cf_project_members m where m.project = $3))
    and ($4::text is null or coalesce(l.status, 'unknown') = $4)
  order by k.device limit $5
)
select jsonb_build_object('devices', coalesce(jsonb_agg(to_jsonb(page) order by device), '[]'),
  'next', case when count(*) = $5 then jsonb_build_array((array_agg(device order by device desc))[1]) end) from page
"""
_CONTAINERS_SQL = """
with page as (
  select * from public.cf_containers_latest c
  where ($1::jsonb is null or (device, name, container_id) > ($1 ->> 0, $1 ->> 1, $1 ->> 2))
    and ($2::text is null or device = $2)
    and ($3::uuid is null or device in (select m.device from public.cf_project_members m where m.project = $3))
    and ($4::text is null or status = $4) and ($5::boolean is null or running = $5) and ($6::text is null or name = $6)
  order by device, name, container_id limit $7
)
select jsonb_build_object(
  'containers', coalesce(jsonb_agg(to_jsonb(page) order by device, name, container_id), '[]'),
  'next', case when count(*) = $7
    then jsonb_agg(jsonb_build_array(device, name, container_id) order by device desc, name desc, container_id desc) -> 0 end)
from page
"""
_SESSIONS_SQL = """
with page as (
  select device, session_id, attributes, created_at, updated_at from public.cf_sessions_latest
  where ($1::jsonb is null or (device, session_id) > ($1 ->> 0, $1 ->> 1)) and ($2::text is null or device = $2)
    and ($3::uuid is null or device in (select m.device from public.cf_project_members m where m.project = $3))
  order by device, session_id limit $4
)
select jsonb_build_object('sessions', coalesce(jsonb_agg(to_jsonb(page) order by device, session_id), '[]'),
  'next', case when count(*) = $4
    then jsonb_agg(jsonb_build_array(device, session_id) order by device desc, session_id desc) -> 0 end)
from page
"""

_DEVICE: dict[str, Any] = {
    "device": "web-1",
    "application": False,
    "categories": ["containers", "system"],
    "heard_at": "2026-11-26T12:00:20.000000+00:00",
    "hostname": "web-1.example",
    "status": "up",
    "cpu_usage": 12.5,
    "memory_usage": 48.0,
    "sampled_at": "2026-11-26T12:00:20.000000+00:00",
    "status_changed_at": None,
    "host": "web-1.example",
    "port": 22,
    "monitoring_enabled": True,
    "description": "the shop",
    "containers": 12,
    "containers_running": 11,
    "sessions": 0,
    "projects": ["shop"],
}


class DeviceDocument(BaseModel):
    """A device or an application as it was heard of last; what nobody knows is null. Percent is of the whole host."""

    model_config = ConfigDict(json_schema_extra={"examples": [_DEVICE]})

    device: str
    application: bool = Field(description="whether it only pushes about itself")
    categories: list[str]
    heard_at: str | None
    hostname: str | None
    status: str
    cpu_usage: float | None
    memory_usage: float | None
    sampled_at: str | None
    status_changed_at: str | None
    host: str | None = Field(description="where it is polled over SSH; null when it is not registered")
    port: int | None
    monitoring_enabled: bool | None
    description: str | None
    containers: int
    containers_running: int
    sessions: int
    projects: list[str]


class DevicesDocument(BaseModel):
    """A page of devices, by name."""

    devices: list[DeviceDocument]
    next: str | None


class ContainerDocument(BaseModel):
    """A container that its device still has; ``cpu_percent`` is 100 a core."""

    device: str
    container_id: str
    name: str
    image: str | None
    status: str
    health: str | None
    running: bool
    cpu_percent: float | None
    memory_used_bytes: int | None
    memory_limit_bytes: int | None
    sampled_at: str


class ContainersDocument(BaseModel):
    """A page of containers, by device and name."""

    containers: list[ContainerDocument]
    next: str | None


class SessionDocument(BaseModel):
    """A session that is active; ``attributes`` are the application's own."""

    device: str
    session_id: str
    attributes: dict[str, Any]
    created_at: str
    updated_at: str


class SessionsDocument(BaseModel):
    """A page of sessions, by application and id."""

    sessions: list[SessionDocument]
    next: str | None


StatusQuery = Annotated[
    Literal["up", "degraded", "down", "unreachable", "unknown"] | None, Query(description="only those")
]


@router.get("/api/devices", response_model=DevicesDocument, responses=_NOT_CHANGED)
async def devices(
    request: Request,
    here: Here,
    reader: Reader,
    status: StatusQuery = None,
    project: ProjectQuery = None,
    limit: LimitQuery = 100,
    after: NextQuery = None,
) -> Response:
    """Devices and applications, by name: those that told something, and those that are registered to be polled."""
    (begin,) = place_of(after, ("text",)) or [None]
    answer = await here.database.answer(reader, _DEVICES_SQL, begin, None, project, status, limit)
    return conditional(request, page(answer))


@router.get("/api/devices/{device}", response_model=DeviceDocument, responses=_NOT_CHANGED | problems(404))
async def one_device(
    request: Request, here: Here, reader: Reader, device: Annotated[str, Path(max_length=128)]
) -> Response:
    """One device or application."""
    name = device_of(device, "path device")
    answer = await here.database.answer(reader, _DEVICES_SQL, None, name, None, None, 1)
    found = orjson.loads(answer)["devices"]
    if not found:
        raise Problem(Kind.NOT_FOUND, f"there is no device {name}; /api/devices has those that there are")
    return conditional(request, orjson.dumps(found[0]))


@router.get("/api/containers", response_model=ContainersDocument, responses=_NOT_CHANGED)
async def containers(
    request: Request,
    here: Here,
    reader: Reader,
    device: DeviceQuery = None,
    project: ProjectQuery = None,
    status: Annotated[str | None, Query(max_length=100, examples=["running"])] = None,
    running: Annotated[bool | None, Query(description="only those that run, or do not")] = None,
    name: Annotated[str | None, Query(max_length=300)] = None,
    limit: LimitQuery = 100,
    after: NextQuery = None,
) -> Response:
    """Containers, by device and name."""
    place = place_of(after, ("text", "text", "text"))
    answer = await here.database.answer(
        reader,
        _CONTAINERS_SQL,
        None if place is None else orjson.dumps(place).decode(),
        device_of(device),
        project,
        text_of(status, "query status"),
        running,
        text_of(name, "query name"),
        limit,
    )
    return conditional(request, page(answer))


@router.get("/api/sessions", response_model=SessionsDocument, responses=_NOT_CHANGED)
async def sessions(
    request: Request,
    here: Here,
    reader: Reader,
    device: DeviceQuery = None,
    project: ProjectQuery = None,
    limit: LimitQuery = 100,
    after: NextQuery = None,
) -> Response:
    """Active sessions of applications, by application and id."""
    place = place_of(after, ("text", "text"))
    begin = None if place is None else orjson.dumps(place).decode()
    answer = await here.database.answer(reader, _SESSIONS_SQL, begin, device_of(device), project, limit)
    return conditional(request, page(answer))
