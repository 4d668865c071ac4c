"""What a change of the flags would do to clients, before it is made. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from monitoring.flags.evaluation import Decision, Reason, compiled
from monitoring.flags.model import Flags
from monitoring.flags.routing import polled
from monitoring.flags.stages import Extent
from monitoring.service import Backend


@dataclass(frozen=True, slots=True)
class Move:
    """One client that would be served by another backend; ``before`` and ``after`` say why it was and would be where it is."""

    client: str
    before: Decision
    after: Decision


@dataclass(frozen=True, slots=True)
class FlagPlan:
    """What would happen to known clients, and to the shares of all that may come.

    ``forward`` move to Supabase, ``back`` to the legacy server; ``unchanged`` counts the others. ``shares`` has, for each
    cohort, the weight that Supabase serves before and after.
    """

    forward: tuple[Move, ...]
    back: tuple[Move, ...]
    unchanged: int
    shares: Mapping[str, tuple[Extent | None, Extent | None]]
    polled_before: frozenset[str]
    polled_after: frozenset[str]
    held_by_rollout: int
    """Clients whom the new file wishes on Supabase, and the rollout does not let there yet."""


def plan(before: Flags, after: Flags, clients: Iterable[str]) -> FlagPlan:
    """Return what putting ``after`` in force in the place of ``before`` does."""
    old, new = compiled(before), compiled(after)
    moves: list[Move] = []
    unchanged = held = 0
    for client in clients:
        was, will = old(client), new(client)
        held += will.reason is Reason.CEILING
        if was.value is will.value:
            unchanged += 1
        else:
            moves.append(Move(client, was, will))
    extents = before.extents(), after.extents()
    names = dict.fromkeys((*extents[0], *extents[1]))
    return FlagPlan(
        forward=tuple(move for move in moves if move.after.value is Backend.SUPABASE),
        back=tuple(move for move in moves if move.after.value is Backend.LEGACY),
        unchanged=unchanged,
        shares={name: (extents[0].get(name), extents[1].get(name)) for name in names},
        polled_before=polled(before),
        polled_after=polled(after),
        held_by_rollout=held,
    )


def sides(flags: Flags, clients: Iterable[str]) -> Mapping[Backend, int]:
    """Return how many of the clients each backend would serve."""
    return Counter(map(_value, map(compiled(flags), clients)))


def _value(decision: Decision) -> Backend:
    return decision.value
