"""What the dashboard looks up beyond the feed: history and tables as a viewer, and the files of this installation."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import httpx

from adapters.rollout_journal import Journal
from crossfade import alert_rules
from crossfade.operating import told
from crossfade.plan import known_addresses
from crossfade.rollout import changes
from crossfade.rollout.load import measured
from crossfade.validation_runs import report_of, runs
from crossfade.wiring import Wiring
from monitoring.capacity import PLANS, to_json
from monitoring.control import ActionFailed
from validation.html import to_html

_ANSWER_SECONDS = 10.0
_MOST_CONNECTIONS = 8


class LookedUp:
    """The records of one installation. Every method may block for a moment, and raises ControlError."""

    def __init__(self, wiring: Wiring) -> None:
        self._wiring = wiring
        self._http = httpx.Client(
            timeout=_ANSWER_SECONDS, limits=httpx.Limits(max_connections=_MOST_CONNECTIONS)
        )

    def close(self) -> None:
        """Close the connections to the services."""
        self._http.close()

    def series(
        self, stream: str, field: str, start: datetime, end: datetime, points: int
    ) -> Mapping[str, Any]:
        """Return a number over a range in about so many steps: the document of ``/api/series``."""
        found = self._query(
            "/api/series",
            {
                "stream": stream,
                "field": field,
                "from": start.astimezone(UTC).isoformat(),
                "to": end.astimezone(UTC).isoformat(),
                "points": points,
            },
        )
        return found if isinstance(found, Mapping) else {}

    def fields(self, stream: str) -> Sequence[str]:
        """Return the numbers of a stream that there is history of."""
        return [str(each) for each in self._query("/api/series/fields", {"stream": stream})]

    def rows(self, table: str, order: str, limit: int, offset: int) -> Sequence[Mapping[str, Any]]:
        """Return rows of one of our tables."""
        return self._rest(table, {"order": order, "limit": limit, "offset": offset})

    def event(self, stream: str, epoch: int, seq: int) -> Mapping[str, Any] | None:
        """Return an event as the feed has it; None where it is not kept any more."""
        found = self._rest(
            "cf_events", {"stream": f"eq.{stream}", "epoch": f"eq.{epoch}", "seq": f"eq.{seq}"}
        )
        return found[0] if found else None

    def projects(self) -> Sequence[tuple[str, Sequence[str]]]:
        """Return the projects that are not archived, by name, each with its devices and applications."""
        found = self._query("/api/projects", {"state": "active"})
        return [(str(each["name"]), list(map(str, each["members"]))) for each in found["projects"]]

    def rollout(self) -> Mapping[str, Any]:
        """Return the rollout's state, what its controller says, and the steps that are left, by cohort."""
        with told():
            entry = Journal(self._wiring.data.rollout_journal).read()
            wishes = changes.wish(self._wiring).wishes() if entry.state.active else {}
            return {
                "n": entry.number,
                "state": entry.state.to_json(),
                "controller": changes.report(self._wiring),
                "steps": {name: changes.steps(entry.state, name, wish) for name, wish in wishes.items()},
            }

    def decisions(self, most: int) -> Sequence[Mapping[str, Any]]:
        """Return the newest entries of the rollout's journal, newest first."""
        with told():
            entries = list(Journal(self._wiring.data.rollout_journal).entries())
        return entries[: -most - 1 : -1]

    def capacity(self) -> Mapping[str, Any] | None:
        """Return what the present load needs of the plan; None when nothing runs to measure."""
        load = measured(self._wiring.data)
        return None if load is None else to_json(load, PLANS[self._wiring.settings.plan])

    def rules(self) -> Mapping[str, Any]:
        """Return the rules of alerts in force, with their file and what is wrong with it."""
        return alert_rules.document(self._wiring.data, self._wiring.settings)

    def agents(self) -> Sequence[Mapping[str, Any]]:
        """Return the agents, by name, with what each may run."""
        return list(self._control("/api/agents", {})["agents"])

    def commands(self, most: int) -> Sequence[Mapping[str, Any]]:
        """Return the newest commands, newest first, without their output."""
        return list(self._control("/api/commands", {"limit": most})["commands"])

    def command(self, id_: str) -> Mapping[str, Any]:
        """Return one command with the end of its output."""
        found: Mapping[str, Any] = self._control(f"/api/commands/{id_}", {})
        return found

    def runs(self, most: int) -> Sequence[tuple[str, Mapping[str, Any]]]:
        """Return the newest comparisons that were kept, by name, newest first."""
        return list(itertools.islice(runs(self._wiring.data), most))

    def run_page(self, name: str) -> str:
        """Return the report of a comparison as one HTML file."""
        with told():
            return to_html(report_of(self._wiring.data, name))

    def _rest(self, table: str, asked: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
        with told():
            url, key, token = self._wiring.supabase()
        headers = {"apikey": key, "Authorization": f"Bearer {token() if token else key}"}
        return list(self._get(f"{url}/rest/v1/{table}", {"select": "*", **asked}, headers))

    def _query(self, path: str, asked: Mapping[str, Any]) -> Any:
        return self._ask(known_addresses(self._wiring.data, self._wiring.settings).query, path, asked)

    def _control(self, path: str, asked: Mapping[str, Any]) -> Any:
        return self._ask(
            known_addresses(self._wiring.data, self._wiring.settings).http("control"), path, asked
        )

    def _ask(self, url: str, path: str, asked: Mapping[str, Any]) -> Any:
        with told():
            _, key, token = self._wiring.supabase()
        return self._get(url + path, asked, {"Authorization": f"Bearer {token() if token else key}"})

    def _get(self, url: str, asked: Mapping[str, Any], headers: Mapping[str, str]) -> Any:
        try:
            answer = self._http.get(url, params=dict(asked), headers=dict(headers))
            said = answer.json()
        except httpx.HTTPError as error:
            raise ActionFailed(f"{url} does not answer: {str(error) or type(error).__name__}") from error
        except ValueError as error:
            raise ActionFailed(f"{url} answered HTTP {answer.status_code}, and no JSON") from error
        if answer.is_error:
            detail = (said.get("detail") or said.get("message")) if isinstance(said, Mapping) else said
            raise ActionFailed(f"{url} refused: HTTP {answer.status_code}: {detail}")
        return said
