"""What the clients of this process see, told to the query service of an installation on another machine.

Sent every few seconds, from memory: what could not be sent is not kept, since figures only grow and the next report says
all that this one did. A service that does not know of reports, or does not take them, costs the clients nothing.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from typing import Any, NoReturn

import orjson
import structlog

from adapters.client_reports import made
from adapters.query_client import AskedToWait, QueryClient
from monitoring.errors import Refused, Unreachable
from monitoring.seen import shared_digests
from monitoring.witness import Witness

EVERY_SECONDS = 4.0
"""Within the ten seconds after which a report is taken for that of a process that has ended."""
MAX_BYTES = 800_000
"""A service takes a million bytes at once; of clients beyond that the figures are sent alone."""
_REFUSED_SECONDS = 60.0

log = structlog.get_logger(__name__)


class RemoteReports:
    """The reports of this process. ``run`` sends them; whoever runs it ends it."""

    def __init__(self, query: QueryClient, *, every_seconds: float = EVERY_SECONDS) -> None:
        self._query = query
        self._every_seconds = every_seconds
        self._process = uuid.uuid4().hex
        self._witnesses: set[Witness] = set()
        self._digest = shared_digests()
        self._problem = ""

    def witness(self, client: str) -> Witness:
        """Return a new client's witness, reported until it is left out."""
        found = Witness(client, time.monotonic, digest=self._digest)
        self._witnesses.add(found)
        return found

    def leave(self, witness: Witness) -> None:
        """Report a client no more."""
        self._witnesses.discard(witness)

    async def run(self) -> NoReturn:
        """Send until cancelled."""
        while True:
            await asyncio.sleep(self._every_seconds)
            clients, sees = made(self._witnesses)
            try:
                await self._query.report(self._process, clients, _within(sees, MAX_BYTES))
                self._problem = ""
            except (Unreachable, Refused) as error:
                if error.reason != self._problem:
                    log.info("report.not_taken", reason=error.reason)
                self._problem = error.reason
                if isinstance(error, Refused):
                    await asyncio.sleep(_REFUSED_SECONDS)
                elif isinstance(error, AskedToWait):
                    await asyncio.sleep(error.retry_after_seconds)


def _within(sees: Mapping[str, Any], room: int) -> dict[str, Any]:
    """Return as many of the clients as there is room for."""
    found = {}
    for client, said in sees.items():
        room -= len(orjson.dumps(said)) + len(client) + 8
        if room < 0:
            break
        found[client] = said
    return found
