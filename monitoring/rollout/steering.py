"""What a person can tell a rollout, as a value: what a page fills in before it is tried and made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from monitoring.flags.stages import Stage

Action = Literal["advance", "hold", "resume", "rollback"]


@dataclass(frozen=True, slots=True)
class RolloutStep:
    """One command. ``cohort`` None is all of them; ``to`` is for rollback, ``acknowledge`` for resume after a trip."""

    action: Action
    why: str = ""
    cohort: str | None = None
    to: Stage = Stage.SHADOW
    acknowledge: bool = False
