"""The port through which a page acts and looks beyond the feed; the composition root provides it.

Whoever acts has signed in with a token of the project. The token goes along with every action and is checked there: what
a page shows or hides is no protection. Methods may block for a moment.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from monitoring.control import Command, Outcome
from monitoring.flags.planning import FlagPlan
from monitoring.logs import LogLine
from monitoring.rollout.observations import Decision
from monitoring.rollout.steering import RolloutStep


class Operator(Protocol):
    """Who signed in."""

    @property
    def name(self) -> str:
        """How records will call them."""
        ...

    @property
    def token(self) -> str:
        """What says so."""
        ...

    @property
    def role(self) -> str:
        """As whom they read: viewer, operator or admin."""
        ...

    @property
    def writes(self) -> bool:
        """Whether they may change anything."""
        ...

    @property
    def expires_at(self) -> datetime | None:
        """When the token expires; None when nobody knows."""
        ...

    @property
    def renewal(self) -> str:
        """What the next token is asked for with; empty where there is none."""
        ...


class Actions(Protocol):
    """What can be done. Every method may raise ControlError, whose message says what happened and what to do next."""

    def sign_in(self, token: str) -> Operator:
        """Return who a token stands for."""
        ...

    def sign_in_with_password(self, email: str, password: str) -> Operator:
        """Return who an address and a password of the project stand for."""
        ...

    def renew(self, renewal: str) -> Operator:
        """Return the same person with a new token; raises SignInNeeded when there is none for them any more."""
        ...

    def clients(self) -> Mapping[str, str]:
        """Return the clients that are connected on this machine, and which backend serves each."""
        ...

    def moves(self, most: int) -> Sequence[Mapping[str, Any]]:
        """Return the newest records of moves of all clients, newest first."""
        ...

    def plan(self, key: str, value: str) -> FlagPlan:
        """Return who would move if a flag had another value."""
        ...

    def set_flag(self, token: str, key: str, value: str, why: str) -> Sequence[str]:
        """Change a flag; return what differs now, in words."""
        ...

    def plan_rollout(self, step: RolloutStep) -> Sequence[Decision]:
        """Return what a command to the rollout would decide now."""
        ...

    def steer_rollout(self, token: str, step: RolloutStep) -> Sequence[Decision]:
        """Let a command to the rollout decide; return what it decided, which is kept."""
        ...

    def acknowledge(self, token: str, alert: str) -> None:
        """Say that somebody is on an alert."""
        ...

    def silence(self, token: str, device: str, seconds: int, comment: str) -> None:
        """Tell nobody of a device's alerts for a while."""
        ...

    def preview(self, token: str, rule: str, seconds: int) -> Mapping[str, Any]:
        """Return what a rule would have said of the last seconds, to anybody who may read; may block for minutes."""
        ...

    def submit(self, token: str, agent: str, command: str, parameters: Mapping[str, str], key: str) -> str:
        """Have an agent run something of its list; return the command's state. Of those with one key one is run."""
        ...

    def cancel(self, token: str, command: str) -> str:
        """Have a command end, by its id; return its state."""
        ...

    def controls(self, device: str) -> bool:
        """Tell whether commands reach the containers of a device."""
        ...

    def command(self, token: str, command: Command, device: str, name: str) -> Outcome:
        """Carry out a command to a container; returns once its effect was seen."""
        ...

    def logs(self, token: str, device: str, name: str, lines: int) -> Sequence[LogLine]:
        """Return the last lines of a container's log."""
        ...
