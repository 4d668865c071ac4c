"""Where our server answers other than the recordings on purpose. `docs/embedded-supabase.md` mirrors this table.

A difference explains frames: those of the recording that do not come (`instead_of`) and those that come in their
place (`ours`). Both are regular expressions, searched in the normal form of `compare`. Where only a part of a frame
differs, `Rewritten` says how the recording would read, and the rest of the frame is still compared. What no entry
explains fails the scenario, and so does an entry that explains nothing: the tables cannot go stale.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.conformance.compare import Difference
    from tests.conformance.transcript import Line

_NO_PENALTIES: Final = "No delay of 5 s before a failed join is answered: the recording ended while the real server still waited."
_AT_ONCE: Final = (
    "A subscription is checked at once, not after a second and more: the recording ended before the answer."
)
_ONE_PROJECT: Final = (
    "There is one project, whatever host name it is called by: no tenants, and no API for them."
)
_ONE_GATEWAY: Final = (
    "The server is its own gateway: the public paths are served, and an unknown path is answered in JSON that "
    "names those there are."
)


@dataclass(frozen=True, slots=True)
class Chosen:
    """A difference we chose in one scenario, and why."""

    scenario: str
    reason: str
    connection: str = ".*"
    instead_of: str | None = None
    ours: str | None = None

    def explains(self, difference: Difference) -> bool:
        """Say whether this is the reason of a difference."""
        pattern = self.instead_of if difference.expected else self.ours
        return (
            pattern is not None
            and re.fullmatch(self.connection, difference.connection) is not None
            and re.search(pattern, difference.key) is not None
        )


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A part of recorded frames that ours has otherwise, and why. `sql` replaces a part of the statements, too."""

    scenario: str
    reason: str
    recorded: str
    ours: str
    sql: tuple[str, str] | None = None


REWRITTEN: Final = (
    Rewritten(
        "pgc_types",
        "char(n) and bit(n) arrive whole; the real server loses their length and sends one character.",
        '"c_char": "c"',
        '"c_char": "ch   "',
    ),
    Rewritten(
        "pgc_types",
        "char(n) and bit(n) arrive whole; the real server loses their length and sends one character.",
        '"c_bit": "1"',
        '"c_bit": "1010"',
    ),
    Rewritten(
        "pgc_types",
        "The PostgreSQL that is installed from PyPI is built without libxml, so the column stays NULL.",
        '"c_xml": "<a>x</a>"',
        '"c_xml": null',
        sql=("'<a>x</a>'", "null"),
    ),
)

CHOSEN: Final = (
    Chosen("malformed", _NO_PENALTIES, "v1_13|v1_14|v2_10|v2_11", ours="UnknownErrorOnChannel"),
    Chosen("malformed", _NO_PENALTIES, "v1_13|v1_14|v2_10|v2_11", ours='"phoenix"'),
    Chosen("malformed", _AT_ONCE, "v1_7|v2_9", ours="Unable to subscribe to changes"),
    Chosen("broadcast_binary_v2", _NO_PENALTIES, "tx", ours="UnknownErrorOnChannel"),
    Chosen(
        "broadcast_binary_v2",
        "The message behind a refused join is not held up by its penalty: it reaches those who are there, and not "
        "the one who comes 4 s later.",
        "rx1|rx2|tx|tx1",
        instead_of='"realtime:bin".*"event": "msg"|"event": "msg".*"realtime:bin"',
        ours='"event": "msg"|"1", "2", "realtime:bin", "phx_reply"',
    ),
    Chosen(
        "broadcast_binary_v2",
        "What a client wrongly calls JSON is not put into the JSON frames of others: v1 clients are spared it.",
        "rx1",
        instead_of='^."text", .*(not json|unable to parse response)',
    ),
    Chosen(
        "rest_broadcast",
        "CORS is answered on every path, as the gateway of a hosted project does.",
        "http",
        '"http", 404, "Not Found"',
        '"http", 200, ""',
    ),
    Chosen("connect_variants", _ONE_PROJECT, "host_no_dot|unknown_tenant", "Tenant not found", "^open$"),
    Chosen("connect_variants", _ONE_GATEWAY, "path_realtime_v1", "Not Found", "^open$"),
    Chosen("connect_variants", _ONE_GATEWAY, "path_socket_only", "Not Found", "no route matched"),
    Chosen("connect_plain_http", _ONE_GATEWAY, "http", "Not Found", "no route matched /nosuch"),
    Chosen(
        "connect_plain_http",
        "Long polling is not served: every client of today has WebSockets.",
        "http",
        '"http", 200.*SFMyNTY',
        "no route matched /socket/longpoll",
    ),
    Chosen("management_api", _ONE_PROJECT, "http", '"http", (200|204|404)', "no route matched /api/tenants"),
)

NOT_REPLAYED: Final[Mapping[str, str]] = {
    "limit_joins_hard": "The 8000 joins that were sent are not in the recording, only the refusals.",
}
"""Scenarios that cannot be replayed, and why."""


def rewritten(scenario: str, lines: Iterable[Line]) -> tuple[list[Line], list[Rewritten]]:
    """Return the recording as ours is to answer it, and the entries that changed nothing in it."""
    entries = [entry for entry in REWRITTEN if entry.scenario == scenario]
    texts = [json.dumps(line) for line in lines]
    idle: list[Rewritten] = []
    for entry in entries:
        # the frame is JSON text inside a line of JSON, and so its quotes are escaped
        before, after = (json.dumps(part)[1:-1] for part in (entry.recorded, entry.ours))
        if not any(before in text for text in texts):
            idle.append(entry)
        texts = [text.replace(before, after) for text in texts]
        if entry.sql is not None:
            old, new = entry.sql
            texts = [text.replace(old, new) if '"dir": "sql"' in text else text for text in texts]
    return [json.loads(text) for text in texts], idle


def unexplained(scenario: str, found: Iterable[Difference]) -> tuple[list[Difference], list[Chosen]]:
    """Return the differences that nothing explains, and the entries of the scenario that explain nothing."""
    entries = [entry for entry in CHOSEN if entry.scenario == scenario]
    idle = dict.fromkeys(range(len(entries)))
    left: list[Difference] = []
    for difference in found:
        reasons = [index for index, entry in enumerate(entries) if entry.explains(difference)]
        for index in reasons:
            idle.pop(index, None)
        if not reasons:
            left.append(difference)
    return left, [entries[index] for index in idle]
