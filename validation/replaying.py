"""A recording played into a session: the same frames make the same result. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta

from monitoring.cursor import Cursor
from monitoring.errors import MonitoringError
from monitoring.events import Event
from monitoring.service import PUSHING, Backend
from validation.clients import Report
from validation.errors import InvalidRecording
from validation.frames import Frame, What
from validation.observation import Decision
from validation.result import Result
from validation.session import Session
from validation.states import snapshot_from_json
from validation.terms import Terms


def replay(frames: Iterable[Frame]) -> Result:
    """Return the result of a recording: what the run had, if it ended; INCONCLUSIVE if it was cut off."""
    session: Session | None = None
    end: Frame | None = None
    at = 0.0
    for frame in frames:
        at = frame.at
        if session is None:
            session = begin_from(frame)
        elif frame.what is What.END:
            end = frame
        else:
            apply(session, frame)
    if session is None:
        raise InvalidRecording("it is empty")
    if end is None:
        session.decide(at)
        cut = "the recording ends in the middle of the run"
        return session.result(session.started_at + timedelta(seconds=at - session.began), doubts=(cut,))
    return session.result(
        datetime.fromisoformat(end.more["ended_at"]),
        errors=tuple(end.more["errors"]),
        doubts=tuple(end.more["doubts"]),
    )


def begin_from(frame: Frame, watch: Callable[[Sequence[Decision]], None] | None = None) -> Session:
    """Return the session that a recording's first frame begins; raises InvalidRecording."""
    try:
        started_at = datetime.fromisoformat(frame.more["started_at"])
        start = Cursor.from_json(frame.more["heads"])
        terms = Terms.from_json(frame.more["terms"], started_at)
    except (KeyError, TypeError, ValueError, MonitoringError) as error:
        raise InvalidRecording(f"its beginning cannot be read: {error}") from error
    return Session(start, started_at, at=frame.at, terms=terms, watch=watch)


def apply(session: Session, frame: Frame) -> None:  # noqa: C901 - one branch a kind of frame
    """Put a frame into a session."""
    match frame:
        case Frame(What.PUBLISHED, at, event=Event() as event):
            session.publish(event, at)
        case Frame(What.DELIVERED, at, Backend() as side, Event() as event, more):
            session.deliver(side, event, at, more.get("latency_seconds"), more.get("tap", 0))
        case Frame(What.HEADS, at, more=more):
            session.publish_upto(Cursor.from_json(more["heads"]), at)
        case Frame(What.DECIDE, at):
            session.decide(at)
        case Frame(What.LIVE, at, Backend() as side, more=more):
            session.set_live(side, at, live=bool(more["live"]))
        case Frame(What.GAP, at, Backend() as side):
            session.gap(side, at)
        case Frame(What.CLIENTS, at, more=more):
            session.report([Report(*each) for each in more["reports"]], at)
        case Frame(What.STATES, at, more=more):
            legacy, supabase = (snapshot_from_json(more[str(side)]) for side in PUSHING)
            session.compare_states(legacy, supabase, at)
        case Frame(What.STATES_END, at, more=more):
            session.end_states(at, more["problem"])
        case Frame(What.FINISH, at, more=more):
            session.finish(Cursor.from_json(more["heads"]), at)
        case _:
            raise InvalidRecording(f"a frame {frame.what} cannot stand here")
