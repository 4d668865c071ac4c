"""How much of Realtime a number of clients needs, and what breaks first. Pure.

A model of arithmetic, not of magic: every client holds one connection, in ``changes`` one channel and one message a row, in
``broadcast`` a channel a device (or ``feed``) and one message a transaction, and a heartbeat in both. The limits are the
hosted plans' published ones and what the real server was measured to carry on two cores.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

MODES = ("changes", "broadcast")

_FEW_DEVICES = 20
"""Up to so many devices a client of broadcast joins each one's channel, beyond that ``feed``."""
_SECONDS_A_MONTH = 30 * 86_400


@dataclass(frozen=True, slots=True)
class Plan:
    """A hosted plan's limits as published; None where there is none. ``messages_a_month`` is what it includes."""

    name: str
    connections: int | None
    messages_a_second: int | None
    joins_a_second: int | None
    channels_a_connection: int | None
    messages_a_month: int | None
    payload_kilobytes: int


PLANS: Mapping[str, Plan] = {
    plan.name: plan
    for plan in (
        Plan("free", 200, 100, 100, 100, 2_000_000, 256),
        Plan("pro", 500, 500, 500, 100, 5_000_000, 3_000),
        Plan("team", 10_000, 2_500, 2_500, 100, 5_000_000, 3_000),
        Plan("own", None, None, None, None, None, 3_000),
    )
}
"""``own`` is a server of one's own: only what was measured limits it."""

CHANGES_A_SECOND = ((50, 338.0), (200, 96.0), (1_000, 20.0))
"""Row changes a second that PostgreSQL can check for so many subscribers (apply_rls is linear in them): measured."""
BROADCASTS_A_SECOND = 30_000.0
"""Messages a second of database broadcasts that the real server carried: the least of three measurements."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked for. ``rate`` is events a second in all, ``batch`` how many of them stand in one transaction.

    ``streams`` are all there are, on ``devices`` devices; each client follows ``share`` (0 to 1) of them. All clients come back
    within ``return_seconds`` after an outage.
    """

    clients: int
    streams: int
    rate: float
    devices: int = 1
    share: float = 1.0
    batch: float = 1.0
    beat_seconds: float = 15.0
    return_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Use:
    """One resource: what is needed and what there is. ``limit`` None is no limit."""

    name: str
    needed: float
    limit: float | None
    unit: str
    source: str

    @property
    def share(self) -> float:
        """How much of the limit is needed; above 1 it breaks."""
        return self.needed / self.limit if self.limit else 0.0


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one mode needs, the tightest first."""

    mode: str
    uses: tuple[Use, ...]

    @property
    def first_to_break(self) -> Use | None:
        """The resource with the least room; None where nothing is limited."""
        limited = [use for use in self.uses if use.limit is not None]
        return limited[0] if limited else None

    @property
    def fits(self) -> bool:
        """Whether every limit is kept. What a month includes is a question of money, not of working."""
        return all(use.share <= 1 for use in self.uses if use.name != "messages a month")

    @property
    def verdict(self) -> str:
        """Whether it fits, in a few words that do not leave the money out."""
        if not self.fits:
            return "does not fit"
        beyond = any(use.share > 1 for use in self.uses)
        return "fits, with more messages than a month includes" if beyond else "fits"


def predict(load: Load, plan: Plan, mode: str) -> Prediction:
    """Return what a mode needs of a plan."""
    uses = sorted(_uses(load, plan, mode), key=lambda use: -use.share)
    return Prediction(mode, tuple(uses))


def recommend(load: Load, plan: Plan) -> tuple[str | None, Mapping[str, Prediction]]:
    """Return the mode to take, None when neither fits, and the predictions of both.

    ``changes`` where both fit: it is simpler, and the writer pays nothing for it.
    """
    found = {mode: predict(load, plan, mode) for mode in MODES}
    return next((mode for mode in MODES if found[mode].fits), None), found


def changes_a_second(subscribers: float) -> float:
    """Return how many row changes a second can be checked for so many subscribers, between what was measured."""
    first, last = CHANGES_A_SECOND[0], CHANGES_A_SECOND[-1]
    if subscribers <= first[0]:
        return first[1]
    if subscribers >= last[0]:
        return last[1] * last[0] / subscribers
    for (few, fast), (many, slow) in pairwise(CHANGES_A_SECOND):
        if subscribers <= many:
            # Of the cost of a change, which is what grows evenly with the subscribers.
            part = (subscribers - few) / (many - few)
            return 1 / (1 / fast + part * (1 / slow - 1 / fast))
    return last[1]


def _uses(load: Load, plan: Plan, mode: str) -> Iterator[Use]:
    published = "published" if plan.connections else "none"
    rows = load.rate * load.share
    writes = rows if mode == "changes" else rows / max(1.0, load.batch)
    beats = 1 / load.beat_seconds
    delivered = load.clients * (writes + beats)
    yield Use("connections", load.clients, plan.connections, "", published)
    yield Use("messages a second", delivered, plan.messages_a_second, "/s", published)
    yield Use(
        "messages a month",
        delivered * _SECONDS_A_MONTH,
        plan.messages_a_month,
        "",
        "included, more is charged",
    )
    devices = max(1, round(load.devices * load.share))
    channels = 1 if mode == "changes" else 1 + (devices if devices <= _FEW_DEVICES else 1)
    yield Use("channels a connection", channels, plan.channels_a_connection, "", published)
    joins = load.clients * channels / load.return_seconds
    yield Use("joins a second after an outage", joins, plan.joins_a_second, "/s", published)
    if mode == "changes":
        yield Use(
            "row changes a second", load.rate, changes_a_second(load.clients * load.share), "/s", "measured"
        )
    else:
        yield Use("broadcasts delivered a second", delivered, BROADCASTS_A_SECOND, "/s", "measured")


def to_json(load: Load, plan: Plan) -> dict[str, object]:
    """Return the whole answer as plain JSON."""
    mode, found = recommend(load, plan)
    return {
        "plan": plan.name,
        "clients": load.clients,
        "streams": load.streams,
        "rate": load.rate,
        "recommended": mode,
        "modes": {
            name: {
                "fits": prediction.fits,
                "verdict": prediction.verdict,
                "first_to_break": prediction.first_to_break.name if prediction.first_to_break else None,
                "uses": [
                    {
                        "name": use.name,
                        "needed": round(use.needed, 2),
                        "limit": use.limit,
                        "share": round(use.share, 4),
                        "source": use.source,
                    }
                    for use in prediction.uses
                ],
            }
            for name, prediction in found.items()
        },
    }
