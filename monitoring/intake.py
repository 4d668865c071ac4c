"""What takes events that somebody else hands over: applications, by HTTP. A port."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from monitoring.events import Draft

_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


def storable(json_text: bytes) -> bool:
    """Tell whether a database can hold JSON: PostgreSQL's text has no place for the character U+0000."""
    return _NUL.search(json_text) is None


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of one event: it is kept, now or since an earlier time (``repeated``), or was refused."""

    refused: str | None = None
    """Why; None when it is kept."""
    again: bool = False
    """Whether a refused event may be taken when it is handed over again."""
    repeated: bool = False


class Intake(Protocol):
    """Keeps events until they have arrived on every path."""

    async def take(self, drafts: Sequence[Draft]) -> Sequence[Taken]:
        """Keep each draft, all of which have ids; return what became of each, in order.

        What is answered as kept is on the disk. Once an event of a stream has to be tried ``again``, so have the later
        ones of that stream, whose order is kept. An event whose id was kept lately is not kept twice. Waits a few
        seconds at most; whatever goes wrong is an answer, not an exception.
        """
        ...
