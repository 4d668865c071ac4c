"""Projects by HTTP: a project groups devices and applications. Anybody who may read sees them; operators change them.

What may be changed by whom is row level security's to say; here is only said it more kindly.
"""

from __future__ import annotations

import uuid
from typing import Annotated, Any, Literal, NoReturn

import orjson
from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field, model_validator
from starlette.responses import Response

from services.access import Caller
from services.conditional import conditional
from services.documents import problems
from services.events import DeviceQuery
from services.feed import Here, Reader
from services.paging import LimitQuery, NextQuery, page, place_of
from services.problems import Kind, Problem
from services.ranges import device_of

router = APIRouter(prefix="/api/projects", tags=["projects"], responses=problems(400, 401, 403, 503))

_PAGE_SQL = """
with page as (
  select * from public.cf_projects p
  where ($1::jsonb is null or (lower(name), id) > ($1 ->> 0, ($1 ->> 1)::uuid))
    and case $2 when 'archived' then archived_at is not null when 'active' then archived_at is null else true end
    and ($3::text is null or exists (
      select from public.cf_project_members m where m.project = p.id and m.device = $3))
  order by lower(name), id limit $4
)
select jsonb_build_object('projects', coalesce(jsonb_agg(public.cf_project_json(p.id) order by lower(p.name), p.id), '[]'),
  'next', case when count(*) = $4
    then jsonb_agg(jsonb_build_array(lower(p.name), p.id) order by lower(p.name) desc, p.id desc) -> 0 end) from page p
"""
_ONE_SQL = "select public.cf_project_json($1)"
_CREATE_SQL = "insert into public.cf_projects (name, description) values ($1, $2) returning to_jsonb(cf_projects) || '{\"members\": []}'"
_CHANGE_SQL = """
update public.cf_projects set name = coalesce($2, name), description = coalesce($3, description),
  archived_at = case when $4::boolean is null then archived_at when $4 then coalesce(archived_at, now()) end
where id = $1 returning public.cf_project_json(id) || to_jsonb(cf_projects)
"""
_ADD_SQL = """
with project as (select id from public.cf_projects where id = $1),
added as (insert into public.cf_project_members (project, device) select id, $2 from project
  on conflict (project, device) do nothing)
select count(*) from project
"""
_REMOVE_SQL = """
with removed as (delete from public.cf_project_members where project = $1 and device = $2 returning 1)
select count(*) from removed
"""

_PROJECT: dict[str, Any] = {
    "id": "0b1b6c4e-58f5-4a0e-9a1c-6f4d4f1c2d3e",
    "name": "shop",
    "description": "all that sells",
    "created_at": "2026-11-26T12:00:20.000000+00:00",
    "created_by": "ops@example.com",
    "updated_at": "2026-11-26T12:00:20.000000+00:00",
    "archived_at": None,
    "members": ["app-7", "web-1"],
}

Name = Annotated[
    str,
    Field(
        min_length=1,
        max_length=100,
        pattern=r"^[^\s\x00-\x1f\x7f]([^\x00-\x1f\x7f]*[^\s\x00-\x1f\x7f])?$",
        description="without space at its ends and control characters; no other project that is not archived has it",
        examples=["shop"],
    ),
]
Description = Annotated[str, Field(max_length=1000, pattern=r"^[^\x00]*$", examples=["all that sells"])]


class ProjectDocument(BaseModel):
    """A project; ``members`` are its first 1,000 devices and applications, by name."""

    model_config = ConfigDict(json_schema_extra={"examples": [_PROJECT]})

    id: str
    name: str
    description: str
    created_at: str
    created_by: str
    updated_at: str
    archived_at: str | None
    members: list[str]


class ProjectsDocument(BaseModel):
    """A page of projects, by name."""

    projects: list[ProjectDocument]
    next: str | None


class NewProject(BaseModel):
    """A project to be made."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"name": "shop", "description": "all that sells"}]}
    )

    name: Name
    description: Description = ""


class ProjectChange(BaseModel):
    """What is to be changed; what is not named stays. Archiving can be undone while nobody has taken the name."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"minProperties": 1, "examples": [{"name": "store"}, {"archived": True}]},
    )

    name: Name = ""
    description: Description = ""
    archived: bool = Field(default=False, strict=True)

    @model_validator(mode="after")
    def _something(self) -> ProjectChange:
        if not self.model_fields_set:
            raise ValueError("name, description or archived is wanted")
        return self

    def asked(self, field: str) -> Any:
        """Return a field that was given, None for one that was not."""
        return getattr(self, field) if field in self.model_fields_set else None


async def operator(reader: Reader) -> Caller:
    """Return who calls; raises Problem for anybody who may not change projects."""
    if not reader.writes:
        raise Problem(
            Kind.FORBIDDEN,
            "this user may not change projects; its app_metadata.crossfade_role must be operator or admin "
            "(crossfade token NAME --role operator makes such a token)",
        )
    return reader


Operator = Annotated[Caller, Depends(operator)]
ProjectId = Annotated[uuid.UUID, Path(description="the project's id")]
Member = Annotated[str, Path(max_length=128, description="a device or an application", examples=["web-1"])]


@router.get("", response_model=ProjectsDocument, responses={304: {"description": "nothing has changed"}})
async def projects(
    request: Request,
    here: Here,
    reader: Reader,
    state: Annotated[Literal["active", "archived", "all"], Query(description="which of them")] = "active",
    device: DeviceQuery = None,
    limit: LimitQuery = 100,
    after: NextQuery = None,
) -> Response:
    """Projects, by name; with `device` those that it belongs to."""
    place = place_of(after, ("text", "uuid"))
    begin = None if place is None else orjson.dumps(place).decode()
    answer = await here.database.answer(reader, _PAGE_SQL, begin, state, device_of(device), limit)
    return conditional(request, page(answer))


@router.post("", status_code=201, response_model=ProjectDocument, responses=problems(408, 409, 413))
async def create(here: Here, caller: Operator, body: NewProject) -> Response:
    """Make a project."""
    try:
        made = await here.database.change(caller, _CREATE_SQL, body.name, body.description)
    except Problem as problem:
        _taken(problem, body.name)
    location = {"Location": f"/api/projects/{orjson.loads(made)['id']}"}
    return Response(made, 201, location, "application/json")


@router.get(
    "/{project}",
    response_model=ProjectDocument,
    responses=problems(404) | {304: {"description": "nothing has changed"}},
)
async def one(request: Request, here: Here, reader: Reader, project: ProjectId) -> Response:
    """One project, archived or not."""
    return conditional(
        request, _there(await here.database.answer(reader, _ONE_SQL, project), project).encode()
    )


@router.patch("/{project}", response_model=ProjectDocument, responses=problems(404, 408, 409, 413))
async def change(here: Here, caller: Operator, project: ProjectId, body: ProjectChange) -> Response:
    """Rename a project, describe it anew, archive it, or take it back from the archive."""
    asked = [body.asked(field) for field in ("name", "description", "archived")]
    try:
        changed = await here.database.change(caller, _CHANGE_SQL, project, *asked)
    except Problem as problem:
        _taken(problem, body.name or "its name")
    return Response(_there(changed, project), media_type="application/json")


@router.put("/{project}/members/{device}", status_code=204, responses=problems(404))
async def add(here: Here, caller: Operator, project: ProjectId, device: Member) -> None:
    """Let a device or an application belong to a project; one that does already still does."""
    name = device_of(device, "path device")
    if await here.database.change(caller, _ADD_SQL, project, name) == "0":
        _missing(project)


@router.delete("/{project}/members/{device}", status_code=204, responses=problems(404))
async def remove(here: Here, caller: Operator, project: ProjectId, device: Member) -> None:
    """Let a device or an application belong to a project no more."""
    name = device_of(device, "path device")
    if await here.database.change(caller, _REMOVE_SQL, project, name) == "0":
        raise Problem(Kind.NOT_FOUND, f"{name} does not belong to the project {project}")


def _there(found: str, project: uuid.UUID) -> str:
    if found == "None":
        _missing(project)
    return found


def _missing(project: uuid.UUID) -> NoReturn:
    raise Problem(Kind.NOT_FOUND, f"there is no project {project}; /api/projects has those that there are")


def _taken(problem: Problem, name: str) -> NoReturn:
    if problem.kind is Kind.CONFLICT:
        raise Problem(
            Kind.CONFLICT, f"there is a project {name} already; take another name, or archive that one"
        ) from problem
    raise problem
