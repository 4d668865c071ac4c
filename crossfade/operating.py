"""What an operator may do by way of the dashboard: each action by a token, checked here, and recorded.

The token is one of the project's (``crossfade token NAME --role operator``), as for every other service. Whoever may only
read is refused; what was done is in ``crossfade flags history`` and in the log.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, assert_never

import httpx
import orjson
import structlog

from adapters import client_reports, move_log
from adapters.device_registry import DeviceRegistry
from adapters.errors import AdapterError
from crossfade import flag_changes, signing_in
from crossfade.alert_rules import Previews
from crossfade.controls import control_of, own_device
from crossfade.errors import CrossfadeError
from crossfade.plan import known_addresses
from crossfade.rollout import changes as rollout_changes
from crossfade.wiring import Role, Wiring, embedded_keys
from monitoring.control import ActionFailed, SignInNeeded
from monitoring.flags.planning import FlagPlan, plan
from monitoring.rollout import commands
from services.access import Caller, Tokens
from services.problems import Problem

if TYPE_CHECKING:
    from monitoring.control import Command, Outcome
    from monitoring.logs import LogLine
    from monitoring.rollout.observations import Decision
    from monitoring.rollout.steering import RolloutStep

_ANSWER_SECONDS = 5.0
_REGISTRY_SECONDS = 5.0

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Operator:
    """Who signed in, with the token that says so."""

    name: str
    token: str = field(repr=False)
    role: Role
    """As whom it reads."""
    writes: bool
    """Whether it may change anything."""
    expires_at: datetime
    renewal: str = field(default="", repr=False)
    """What the next token is asked for with; empty where there is none."""


class Operating:
    """The actions of one installation. Every method may block for a moment, and raises ControlError."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._devices: Collection[str] = ()
        self._look_again = 0.0
        self._previews = Previews(wiring.data)

    def sign_in(self, token: str) -> Operator:
        """Return who a token stands for."""
        return self._signed_in(token, "")

    def sign_in_with_password(self, email: str, password: str) -> Operator:
        """Return who an address and a password of the project's Supabase stand for, with the token it gives out."""
        with told():
            url, key, _ = self._wiring.supabase()
        granted = signing_in.with_password(url, key, email, password)
        try:
            return self._signed_in(granted.token, granted.renewal)
        except ActionFailed as error:
            raise ActionFailed(f"{email} is known, but {error}") from error

    def renew(self, renewal: str) -> Operator:
        """Return the same person with a new token; raises SignInNeeded when the project gives out no more."""
        with told():
            url, key, _ = self._wiring.supabase()
        granted = signing_in.renewed(url, key, renewal)
        return self._signed_in(granted.token, granted.renewal)

    def _signed_in(self, token: str, renewal: str) -> Operator:
        caller = self._caller(token)
        if not caller.reads:
            raise SignInNeeded(
                "this token may not read; its app_metadata.crossfade_role must be viewer, operator or admin"
            )
        ends = datetime.fromtimestamp(orjson.loads(caller.claims)["exp"], UTC)
        return Operator(_name(caller), token, _role(caller), caller.writes, ends, renewal)

    def clients(self) -> Mapping[str, str]:
        """Return the clients that are connected on this machine, and which backend serves each."""
        reports = client_reports.read(self._wiring.data.client_reports).values()
        return {
            client: str(figures.get("backend", "")) for each in reports for client, figures in each.items()
        }

    def moves(self, most: int) -> Sequence[Mapping[str, Any]]:
        """Return the newest records of moves of all clients, newest first."""
        return move_log.newest(self._wiring.data.moves, most)

    def plan(self, key: str, value: str) -> FlagPlan:
        """Return who would move if a flag had another value."""
        with told():
            change = flag_changes.prepared(self._wiring, key, value)
        before, after = (flag_changes.in_force(self._wiring, each) for each in (change.before, change.after))
        return plan(before, after, self.clients())

    def set_flag(self, token: str, key: str, value: str, why: str) -> Sequence[str]:
        """Change a flag and return what differs now; refused when somebody else has changed the file meanwhile."""
        who = self._operator(token)
        with told():
            changes = flag_changes.made(
                self._wiring, flag_changes.prepared(self._wiring, key, value), why, who
            )
        log.info("flag_set", who=who, key=key, value=value, why=why)
        return changes

    def plan_rollout(self, step: RolloutStep) -> Sequence[Decision]:
        """Return what a command to the rollout would decide now."""
        with told():
            return rollout_changes.tried(self._wiring, self._rollout_command(step)).decisions

    def steer_rollout(self, token: str, step: RolloutStep) -> Sequence[Decision]:
        """Let a command to the rollout decide, and keep it in the journal."""
        who = self._operator(token)
        with told():
            decisions = rollout_changes.made(self._wiring, self._rollout_command(step), who).decisions
        log.info("rollout_steered", who=who, action=step.action, cohort=step.cohort, why=step.why)
        return decisions

    def acknowledge(self, token: str, alert: str) -> None:
        """Say that somebody is on an alert."""
        self._ask(token, f"/api/alerts/{alert}/acknowledge", None)

    def silence(self, token: str, device: str, seconds: int, comment: str) -> None:
        """Tell nobody of a device's alerts for a while."""
        self._ask(
            token, "/api/alerts/silences", {"devices": [device], "for_seconds": seconds, "comment": comment}
        )

    def preview(self, token: str, rule: str, seconds: int) -> Mapping[str, Any]:
        """Return what a rule would have said of the last seconds; one is tried at a time."""
        self.sign_in(token)
        with told():
            return self._previews.of(rule, seconds)

    def submit(self, token: str, agent: str, command: str, parameters: Mapping[str, str], key: str) -> str:
        """Have an agent run something of its list; return the command's state. Of those with one key one is run."""
        body = {"agent": agent, "command": command, "parameters": dict(parameters)}
        return str(self._ask(token, "/api/commands", body, service="control", key=key)["state"])

    def cancel(self, token: str, command: str) -> str:
        """Have a command end, by its id; return its state."""
        return str(self._ask(token, f"/api/commands/{command}/cancel", {}, service="control")["state"])

    def controls(self, device: str) -> bool:
        """Tell whether commands reach the containers of a device: of this machine, and of those that are read over SSH."""
        return device == own_device(self._wiring) or device in self._registered()

    def _registered(self) -> Collection[str]:
        """Return the devices of the registry, as of some seconds ago at most; none while it cannot be read."""
        if time.monotonic() >= self._look_again:
            try:
                self._devices = frozenset(asyncio.run(DeviceRegistry(self._wiring.database_url()).devices()))
            except (AdapterError, CrossfadeError) as error:
                log.debug("registry_unreadable", reason=str(error))
            self._look_again = time.monotonic() + _REGISTRY_SECONDS
        return self._devices

    def command(self, token: str, command: Command, device: str, name: str) -> Outcome:
        """Carry out a command to a container, here or over SSH; returns once its event was seen."""
        who = self._operator(token)

        async def run() -> Outcome:
            control = await control_of(self._wiring, device)  # belongs to the loop that the action runs in
            return await control.command(command, name)

        with told():
            outcome = asyncio.run(run())
        log.info(
            "container_command",
            who=who,
            command=command,
            device=device,
            container=name,
            status=outcome.status,
        )
        return outcome

    def logs(self, token: str, device: str, name: str, lines: int) -> Sequence[LogLine]:
        """Return the last lines of a container, here or over SSH."""
        self.sign_in(token)

        async def run() -> Sequence[LogLine]:
            return await (await control_of(self._wiring, device)).logs(name, lines)

        with told():
            return asyncio.run(run())

    def _rollout_command(self, step: RolloutStep) -> rollout_changes.Command:
        match step.action:
            case "advance":
                seen = rollout_changes.observations(self._wiring)
                return lambda state: commands.advance(state, seen, step.cohort, step.why)
            case "hold":
                return lambda state: commands.hold(state, step.why or "by hand")
            case "resume":
                return lambda state: commands.resume(state, acknowledge=step.acknowledge, why=step.why)
            case "rollback":
                return lambda state: commands.rollback(state, step.to, step.why or "by hand", step.cohort)
            case never:
                assert_never(never)

    def _ask(self, token: str, path: str, body: Any, *, service: str = "query", key: str = "") -> Any:
        """Hand something to a service, which looks at the token itself; return its answer."""
        url = known_addresses(self._wiring.data, self._wiring.settings).http(service)
        headers = {"Authorization": f"Bearer {token}", **({"Idempotency-Key": key} if key else {})}
        try:
            answer = httpx.post(url + path, json=body, headers=headers, timeout=_ANSWER_SECONDS)
        except httpx.HTTPError as error:
            raise ActionFailed(f"the {service} service at {url} does not answer: {error}") from error
        try:
            said = answer.json() if answer.content else None
        except ValueError:
            said = None
        if answer.is_error:
            detail = said.get("detail") if isinstance(said, Mapping) else None
            raise ActionFailed(f"the {service} service refused: {detail or f'HTTP {answer.status_code}'}")
        return said

    def _operator(self, token: str) -> str:
        caller = self._caller(token)
        if not caller.writes:
            raise ActionFailed("this token may only read; crossfade token NAME --role operator makes another")
        return _name(caller)

    def _caller(self, token: str) -> Caller:
        settings = self._wiring.settings
        if settings.hosted and settings.jwt_secret is None:
            raise ActionFailed("SUPABASE_JWT_SECRET is not set: without it no token can be checked")
        with told():
            secret = (
                settings.jwt_secret.get_secret_value()
                if settings.hosted and settings.jwt_secret
                else embedded_keys(self._wiring.data).jwt_secret
            )
            return Tokens(secret).caller(f"Bearer {token.strip()}")


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Turn what cannot be done into the one error that pages know."""
    try:
        yield
    except Problem as problem:
        raise ActionFailed(problem.detail) from problem
    except (AdapterError, CrossfadeError) as error:
        raise ActionFailed(str(error)) from error


def _name(caller: Caller) -> str:
    claims = orjson.loads(caller.claims)
    ours = claims.get("app_metadata")
    name = ours.get("crossfade_name") if isinstance(ours, dict) else None
    return str(name or claims.get("email") or claims.get("sub") or caller.role)


def _role(caller: Caller) -> Role:
    if caller.administers:
        return Role.ADMIN
    return Role.OPERATOR if caller.writes else Role.VIEWER
