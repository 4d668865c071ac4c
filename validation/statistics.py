"""What can be concluded from what was found so far, valid at every look. Pure.

Losses come in bursts: one reconnect is hundreds of events. Events are therefore no independent trials, and the unit is
the *block*: one client's events of one window of ten seconds. Two tests run over the blocks, for each class of
findings and each cohort of clients:

* **Pass**: an e-process for "at least ``limit`` of the blocks are disturbed". Each block multiplies it by the likelihood
  ratio of ``hope`` against ``limit``. While the claim holds, it is a supermartingale, whatever the blocks before were
  like, so that it ever reaches ``1/alpha`` has at most the probability ``alpha`` (Ville, 1939). One may look as often as
  one likes and stop at will; it must not be begun anew after a bad start, unless with ``alpha`` divided by the attempts.
* **Trip**: a CUSUM of the likelihood ratio of ``alarm`` against ``limit``, here per event, where findings of one block
  that stand close together count as one *incident*. It forgets good times, which a sequential test would drown in.

The rate below which the share of disturbed blocks is, with 95 % confidence at any look, comes from the same e-process:
it is the smallest limit that it would have refuted by now.

`Evidence` is a value: it can be kept in a journal (``to_json``) and gone on from. `judge` says what it amounts to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from validation.errors import InvalidFigures
from validation.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

WINDOW_SECONDS = 10.0
"""A block is a client's events of so long."""
BURST_EVENTS = 5
"""Findings with fewer events than this between them are one incident."""


@dataclass(frozen=True, slots=True)
class Standard:
    """What is asked of a class of findings. Shares are of blocks for the pass, of events for the trip."""

    limit: float = 1e-3
    """This share must be ruled out for a pass, and is what a trip must not be caused by."""
    hope: float = 2e-4
    """The share that a good path is expected to have, at most: the further below ``limit``, the sooner it passes."""
    alarm: float = 1e-2
    """The share that a trip is to notice soon."""
    alpha: float = 0.05
    """How probable it may be that a path at the limit passes, ever."""
    trip_level: float = math.log(2e5)
    """The height of the CUSUM that trips. With the other defaults, less than 3 % of false trips in a million events."""

    def __post_init__(self) -> None:
        if not 0 < self.hope < self.limit < self.alarm < 1:
            raise InvalidFigures(
                f"0 < hope < limit < alarm < 1 must hold; got hope {self.hope:g}, limit {self.limit:g}, alarm {self.alarm:g}"
            )
        if not 0 < self.alpha < 1 or not 0 < self.trip_level < math.inf:
            raise InvalidFigures(
                f"alpha must be between 0 and 1 and the trip level above 0; got {self.alpha:g}, {self.trip_level:g}"
            )

    @property
    def blocks_to_pass(self) -> int:
        """How many blocks without any finding it takes to pass."""
        return math.ceil(-math.log(self.alpha) / math.log((1 - self.hope) / (1 - self.limit)))


DEFAULT = Standard()


@dataclass(frozen=True, slots=True)
class Block:
    """One client's events of one window that were decided, how many are findings, and of how many incidents."""

    events: int
    findings: int = 0
    incidents: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.incidents <= self.findings <= self.events or bool(self.findings) > bool(
            self.incidents
        ):
            raise InvalidFigures(
                f"a block of {self.events} events cannot have {self.findings} findings in {self.incidents} incidents"
            )


@dataclass(frozen=True, slots=True)
class Evidence:
    """All that the blocks so far have shown of one class in one cohort. Begins empty."""

    blocks: int = 0
    disturbed: int = 0
    events: int = 0
    findings: int = 0
    incidents: int = 0
    log_e: float = 0.0
    """The e-process, as its logarithm."""
    log_e_peak: float = 0.0
    """Its highest value so far: once it has refuted the limit, it has."""
    cusum: float = 0.0
    tripped_at_events: int | None = None
    """How many events had been seen when it tripped; it stays tripped."""

    def add(self, block: Block, standard: Standard = DEFAULT) -> Evidence:
        """Return the evidence with one more block; a block without events changes nothing."""
        if not block.events:
            return self
        hope, limit, alarm = standard.hope, standard.limit, standard.alarm
        log_e = self.log_e + (
            math.log(hope / limit) if block.findings else math.log((1 - hope) / (1 - limit))
        )
        events = self.events + block.events
        cusum = max(
            0.0,
            self.cusum
            + block.incidents * math.log(alarm / limit)
            # What belongs to an incident is neither good nor bad beyond it.
            + (block.events - block.findings) * math.log((1 - alarm) / (1 - limit)),
        )
        tripped = self.tripped_at_events
        if tripped is None and cusum >= standard.trip_level:
            tripped = events
        return Evidence(
            blocks=self.blocks + 1,
            disturbed=self.disturbed + bool(block.findings),
            events=events,
            findings=self.findings + block.findings,
            incidents=self.incidents + block.incidents,
            log_e=log_e,
            log_e_peak=max(self.log_e_peak, log_e),
            cusum=cusum,
            tripped_at_events=tripped,
        )

    def acknowledged(self) -> Evidence:
        """Return the evidence with its trip dismissed, as a person may; the e-process goes on where it was."""
        return replace(self, cusum=0.0, tripped_at_events=None)

    def upper_bound(self, standard: Standard = DEFAULT) -> float | None:
        """Return the share of disturbed blocks that is ruled out, valid at any look; None without blocks."""
        return upper_bound(self.disturbed, self.blocks, standard)

    @property
    def design_effect(self) -> float | None:
        """How many findings an incident has: how much more than it seems a finding says less; None without any."""
        return self.findings / self.incidents if self.incidents else None

    def to_json(self) -> dict[str, Any]:
        """Return its form in a journal."""
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Evidence:
        """Read ``to_json``; raises InvalidFigures for anything else."""
        try:
            made = cls(**value)
            whole = (made.blocks, made.disturbed, made.events, made.findings, made.incidents)
            fine = all(type(each) is int and each >= 0 for each in whole) and all(
                math.isfinite(each) for each in (made.log_e, made.log_e_peak, made.cusum)
            )
        except TypeError as error:
            raise InvalidFigures(f"not evidence: {error}") from error
        if not fine or not made.disturbed <= made.blocks <= made.events:
            raise InvalidFigures(f"evidence that does not add up: {dict(value)}")
        return made


@dataclass(frozen=True, slots=True)
class Judgement:
    """What evidence amounts to. Only PASS is a yes; ``progress`` (0 to 1) is how far it is to one."""

    verdict: Verdict
    reason: str
    progress: float


def judge(evidence: Evidence, standard: Standard = DEFAULT) -> Judgement:
    """Return PASS once the limit is ruled out, FAIL once tripped (which beats it), else INCONCLUSIVE or NO_DATA."""
    if not evidence.blocks:
        return Judgement(Verdict.NO_DATA, "nothing was decided yet", 0.0)
    goal = -math.log(standard.alpha)
    progress = min(1.0, max(0.0, evidence.log_e_peak / goal))
    told = sentence(evidence, standard)
    if evidence.tripped_at_events is not None:
        return Judgement(Verdict.FAIL, f"tripped after {evidence.tripped_at_events} events: {told}", progress)
    if evidence.log_e_peak >= goal:
        return Judgement(Verdict.PASS, told, 1.0)
    more = math.ceil((goal - evidence.log_e) / math.log((1 - standard.hope) / (1 - standard.limit)))
    return Judgement(
        Verdict.INCONCLUSIVE, f"{told}; {more} clean blocks more rule out {standard.limit:.3%}", progress
    )


def judge_all(found: Iterable[Judgement]) -> Judgement:
    """Return the worst of several: FAIL, then whatever is not yet a PASS; PASS only when each is one."""
    order = (Verdict.FAIL, Verdict.ERROR, Verdict.NO_DATA, Verdict.INCONCLUSIVE, Verdict.PASS)
    ranked = sorted(found, key=lambda each: (order.index(each.verdict), each.progress))
    return ranked[0] if ranked else Judgement(Verdict.NO_DATA, "nothing was looked at", 0.0)


def sentence(evidence: Evidence, standard: Standard = DEFAULT) -> str:
    """Return ``0 of N blocks disturbed: below x % (95 %, valid at any look)``."""
    bound = evidence.upper_bound(standard)
    shown = "nothing is ruled out yet" if bound is None or bound >= 1 else f"below {bound:.3%}"
    return (
        f"{evidence.disturbed} of {evidence.blocks} blocks disturbed ({evidence.findings} of {evidence.events} events): "
        f"{shown} ({1 - standard.alpha:.0%}, valid at any look)"
    )


def upper_bound(disturbed: int, trials: int, standard: Standard = DEFAULT) -> float | None:
    """Return the smallest share that ``disturbed`` of ``trials`` has refuted at any look; None without trials.

    For each share p there is an e-process against it with the alternative ``r*p``, r = hope / limit; after k of n it is
    ``r**k * ((1 - r*p) / (1 - p))**(n - k)``, which grows with p. The bound is where it reaches ``1/alpha``. Without any
    finding that is about 3.7 / n, where a bound for one look alone would be 3.0 / n (the rule of three).
    """
    clean = trials - disturbed
    if trials <= 0:
        return None
    if clean <= 0:
        return 1.0
    ratio = standard.hope / standard.limit
    exponent = (-math.log(standard.alpha) - disturbed * math.log(ratio)) / clean
    if exponent > 700:  # noqa: PLR2004 - beyond what exp can do: the bound is 1 to sixteen places
        return 1.0
    grown = math.expm1(exponent)
    return min(1.0, grown / (grown + 1 - ratio))


class BlockCounter:
    """Makes blocks of one client's decided events, for one class of findings. Feed it in the order of the events."""

    def __init__(self, window_seconds: float = WINDOW_SECONDS) -> None:
        self._seconds = window_seconds
        self._window: int | None = None
        self._events = self._findings = self._incidents = 0
        self._last_finding: int | None = None

    def add(self, at: float, *, finding: bool, events: int = 1) -> Block | None:
        """Take events of one moment; return the block that ended before them, if one did.

        Events of a window that has ended already count in the one that is open: the order of decisions is nearly that
        of events.
        """
        window = int(at // self._seconds)
        ended = None
        if self._window is None or window > self._window:
            ended = self.close()
            self._window = window
        self._events += events
        if finding:
            if self._last_finding is None or self._events - self._last_finding > BURST_EVENTS:
                self._incidents += 1
            self._last_finding = self._events
            self._findings += events
        return ended

    def peek(self) -> Block | None:
        """Return the open block as it stands; None when it has no events."""
        return Block(self._events, self._findings, self._incidents) if self._events else None

    def close(self) -> Block | None:
        """End the open block and return it; None when it has no events."""
        block = self.peek()
        self._events = self._findings = self._incidents = 0
        self._last_finding = None
        return block
