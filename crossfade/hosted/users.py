"""The people whom `crossfade init` gives a role, and whom `crossfade uninit` takes it from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from crossfade.accounts import ROLE, accounts
from crossfade.errors import UsageError
from crossfade.wiring import Role

if TYPE_CHECKING:
    from collections.abc import Sequence

MADE_HERE = "crossfade_init"
"""Marks, in ``app_metadata``, a user that `add` has made: `remove` deletes those and no others."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Somebody who is to have a role."""

    role: Role
    email: str


@dataclass(frozen=True, slots=True)
class Added:
    """What was done for somebody. ``password`` is None for a user that was there: only the role is new."""

    role: Role
    email: str
    password: str | None


def parse(text: str) -> Wanted:
    """Return what ``ROLE=EMAIL`` means; raises UsageError."""
    role, equals, email = text.partition("=")
    roles = ", ".join(Role)
    if not equals or "@" not in email.strip("@"):
        raise UsageError(f"{text!r} is not ROLE=EMAIL; for example viewer=ann@example.com; roles are {roles}")
    try:
        return Wanted(Role(role.strip()), email.strip().lower())
    except ValueError:
        raise UsageError(f"{role!r} is not a role; roles are {roles}") from None


async def add(url: str, secret_key: str, people: Sequence[Wanted]) -> list[Added]:
    """Give people their role, and make those a user that are none yet; raises CrossfadeError."""
    if not people:
        return []
    added = []
    async with accounts(url, secret_key) as project:
        known = {user.email: user for user in await project.all()}
        for person in people:
            user, password = known.get(person.email), None
            if user is None:
                password = await project.add(person.email, person.role, mark=MADE_HERE)
            else:
                await project.set_role(user, person.role)
            added.append(Added(person.role, person.email, password))
    return added


async def remove(url: str, secret_key: str) -> tuple[list[str], list[str]]:
    """Delete the users that `add` made, and take the role from others; return the addresses of both."""
    deleted, kept = [], []
    async with accounts(url, secret_key) as project:
        for user in await project.all():
            name = user.email or user.id
            if user.app_metadata.get(MADE_HERE):
                await project.remove(user)
                deleted.append(name)
            elif user.app_metadata.get(ROLE):
                await project.set_role(user, None)
                kept.append(name)
    return deleted, kept
