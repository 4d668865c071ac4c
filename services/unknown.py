"""Query parameters that an operation has not: refused, so that a slip of the pen is not taken for everything."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from services.problems import Kind, Mistake, Problem

_SHOWN = 20


async def refuse_unknown(request: Request) -> None:
    """Raise Problem for query parameters that the operation does not know."""
    route = request.scope.get("route")
    if not request.query_params or not isinstance(route, APIRoute):
        return
    known = set(_names(route.dependant))
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        there = f"there are {', '.join(sorted(known))}" if known else "there are none"
        mistakes = [Mistake(f"query {name[:100]}", "there is no such parameter") for name in unknown[:_SHOWN]]
        shown = ", ".join(mistake.at for mistake in mistakes[:3])
        raise Problem(
            Kind.INVALID_REQUEST, f"{shown}: there is no such parameter; {there}", mistakes=mistakes
        )


def _names(dependant: Dependant) -> Iterator[str]:
    yield from (field.alias for field in dependant.query_params)
    for each in dependant.dependencies:
        yield from _names(each)
