"""The dashboard's actions in memory: one operator, one viewer, one container that does as it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from monitoring.control import ActionFailed, Command, Outcome, SignInNeeded
from monitoring.errors import InvalidFlags
from monitoring.flags.description import differences
from monitoring.flags.editing import edit
from monitoring.flags.loading import load
from monitoring.flags.planning import FlagPlan, plan
from monitoring.logs import LogLine, Mark
from monitoring.rollout.observations import Decision
from monitoring.rollout.steering import RolloutStep
from tests.fakes.dashboard_records import RULES, Steered, preview_report


@dataclass(frozen=True, slots=True)
class Person:
    name: str
    token: str
    role: str
    writes: bool
    expires_at: datetime | None = None
    renewal: str = ""


PEOPLE = {
    "op": Person("ann", "op", "operator", writes=True),
    "look": Person("bob", "look", "viewer", writes=False),
}


class Acting:
    """Carries out actions on a flag file's text and on a list of what was commanded."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.steered = Steered()
        self.done: list[tuple[str, str, str]] = []
        self.conflict = False
        self.renewals: dict[str, Person] = {}
        """What each renewal is good for, once."""

    def sign_in(self, token: str) -> Person:
        if token not in PEOPLE:
            raise ActionFailed("the token is not valid here: Not enough segments")
        return PEOPLE[token]

    def sign_in_with_password(self, email: str, password: str) -> Person:
        if (email, password) != ("ann@example.com", "correct horse"):
            raise ActionFailed(f"http://127.0.0.1:54321 does not let {email} in: Invalid login credentials")
        return PEOPLE["op"]

    def renew(self, renewal: str) -> Person:
        if renewal not in self.renewals:
            raise SignInNeeded("http://127.0.0.1:54321 does not renew the session: Already Used")
        return self.renewals.pop(renewal)

    def clients(self) -> Mapping[str, str]:
        return {"dash-1": "legacy", "dash-2": "supabase"}

    def moves(self, most: int) -> Sequence[Mapping[str, Any]]:
        record = {
            "at": datetime.now(UTC).isoformat(),
            "client": "dash-2",
            "from": "legacy",
            "to": "supabase",
            "outcome": "moved",
            "seconds": 0.41,
            "reason": "the flags say supabase",
        }
        return [record][:most]

    def plan(self, key: str, value: str) -> FlagPlan:
        return plan(load(self.text), load(self._edited(key, value)), self.clients())

    def set_flag(self, token: str, key: str, value: str, why: str) -> Sequence[str]:
        self._write(token)
        if self.conflict:
            raise ActionFailed(
                "flags.yaml: was changed by somebody else in the meantime; look at it and try again"
            )
        before, self.text = load(self.text), self._edited(key, value)
        self.done.append((key, value, why))
        return list(differences(before, load(self.text)))

    def plan_rollout(self, step: RolloutStep) -> Sequence[Decision]:
        return self.steered.decided(step)[1]

    def steer_rollout(self, token: str, step: RolloutStep) -> Sequence[Decision]:
        self._write(token)
        return self.steered.keep(PEOPLE[token].name, step)

    def acknowledge(self, token: str, alert: str) -> None:
        self._write(token)
        self.done.append(("acknowledge", alert, ""))

    def silence(self, token: str, device: str, seconds: int, comment: str) -> None:
        self._write(token)
        self.done.append(("silence", device, f"{seconds} {comment}"))

    def preview(self, token: str, rule: str, seconds: int) -> Mapping[str, Any]:
        self.sign_in(token)
        if rule not in {each["name"] for each in RULES}:
            raise ActionFailed(f"alerts.yaml has no rule {rule!r}")
        return preview_report(rule, seconds)

    def submit(self, token: str, agent: str, command: str, parameters: Mapping[str, str], key: str) -> str:
        self._write(token)
        assert key
        words = " ".join(f"{name}={value}" for name, value in parameters.items())
        self.done.append(("submit", f"{command} on {agent}", words))
        return "queued"

    def cancel(self, token: str, command: str) -> str:
        self._write(token)
        self.done.append(("cancel", command, ""))
        return "running"

    def controls(self, device: str) -> bool:
        return device == "box-1"

    def command(self, token: str, command: Command, device: str, name: str) -> Outcome:
        self._write(token)
        self.done.append((command, device, name))
        status = "exited" if command is Command.STOP else "running"
        return Outcome(device, name, "0" * 12, command, changed=True, status=status, exit_code=None, at=None)

    def logs(self, token: str, device: str, name: str, lines: int) -> Sequence[LogLine]:
        self.sign_in(token)
        at = 1_795_248_000_000_000_000
        return [
            LogLine(at, f"{name} is up"),
            LogLine(at + 10**9, "it was restarted", mark=Mark.RESTARTED),
            LogLine(at + 2 * 10**9, "order 7 taken"),
        ][-lines:]

    def _write(self, token: str) -> None:
        if not self.sign_in(token).writes:
            raise ActionFailed("this token may only read")

    def _edited(self, key: str, value: str) -> str:
        try:
            return edit(self.text, key, value)
        except InvalidFlags as error:
            raise ActionFailed(str(error)) from error
