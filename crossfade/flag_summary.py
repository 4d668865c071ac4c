"""What flags mean for everybody, in one short clause. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from monitoring.flags.model import Flags


def summarize(flags: Flags) -> str:
    """Return who is served by which backend: ``25 % of clients on Supabase, 1 allowed, 0 denied``."""
    if flags.kill:
        return "kill: every client is on the legacy server"
    lists = f", {len(flags.allow)} allowed, {len(flags.deny)} denied" if flags.allow or flags.deny else ""
    return f"{flags.percent} % of clients on Supabase{lists}"
