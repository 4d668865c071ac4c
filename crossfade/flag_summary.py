"""What flags mean for everybody, in one short clause. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from monitoring.flags.model import SWITCHES

if TYPE_CHECKING:
    from monitoring.flags.model import Flags


def summarize(flags: Flags) -> str:
    """Return who is served by which backend: ``25 % of clients on Supabase, 1 allowed, 0 denied``."""
    if "websocket_enabled" in flags.switched_off:
        return f"{_off(flags, 'websocket_enabled')}: everything is polled"
    off = "".join(f", {_off(flags, name)}" for name in SWITCHES if name in flags.switched_off)
    if flags.kill:
        return f"kill: every client is on the legacy server{off}"
    lists = f", {len(flags.allow)} allowed, {len(flags.deny)} denied" if flags.allow or flags.deny else ""
    return f"{flags.percent} % of clients on Supabase{lists}{off}"


def _off(flags: Flags, name: str) -> str:
    return f"{name} is false" + (" in the environment" if name in flags.from_environment else "")
