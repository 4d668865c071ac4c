"""Crossfade: move the clients of a live monitoring stream to Supabase Realtime, with nothing lost and nothing twice.

What programs use: ``connect`` (asyncio) and ``connect_blocking`` (scripts), and the types of what they get. Applications push with `crossfade.push`.
"""

from crossfade.blocking import BlockingClient, BlockingEvents, connect_blocking
from crossfade.client import Client, Events, connect
from monitoring.cursor import Cursor
from monitoring.events import Event
from monitoring.service import Backend, Gap, MoveAbandoned, Moved, Snapshot

__all__ = [
    "Backend",
    "BlockingClient",
    "BlockingEvents",
    "Client",
    "Cursor",
    "Event",
    "Events",
    "Gap",
    "MoveAbandoned",
    "Moved",
    "Snapshot",
    "connect",
    "connect_blocking",
]
