"""Keeps what applications hand over: an owner of their streams, with a spool of its own.

The spool is also the memory of what was handed over: events keep the ids they came with, and at a start the newest are
read back from the file. So an application that did not hear our answer may ask again, even over our restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self
from uuid import UUID

from adapters.errors import AdapterError
from adapters.publisher import Publisher
from adapters.spool import Spool
from adapters.spool_file import SpoolError
from legacy_ws.errors import LegacyError
from monitoring.errors import InvalidEvent
from monitoring.events import Draft, StreamId
from monitoring.intake import Intake, Taken

REMEMBERED = 20_000
"""The newest events whose ids are known to have been kept."""
MAX_STREAMS = 1_000
"""Each is a lease to be renewed for as long as we run."""

_OPEN_SECONDS = 2.0
_AGAIN_SECONDS = 1.0
_READ = 1_000

log = logging.getLogger(__name__)


class EventIntake(Intake):
    """Open it with ``async with``; a spool that cannot be opened is said, and tried again when events come."""

    def __init__(
        self,
        path: Path,
        *,
        database_url: str,
        legacy_url: str | None = None,
        legacy_token: Callable[[], str] = str,
        max_streams: int = MAX_STREAMS,
    ) -> None:
        """Keep events in the spool at ``path``, for the database and, at ``ws://HOST:PORT/link``, a legacy server.

        ``legacy_token`` reads the link's secret; it may raise LegacyError.
        """
        self._path = path
        self._database_url = database_url
        self._legacy_url = legacy_url
        self._legacy_token = legacy_token
        self._max_streams = max_streams
        self._stack = AsyncExitStack()
        self._publisher: Publisher | None = None
        self._kept: OrderedDict[UUID, None] = OrderedDict()
        self._being_taken: set[UUID] = set()
        self._problem = "not started"
        self._tried_at = -_AGAIN_SECONDS

    async def __aenter__(self) -> Self:
        await self._open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close("stopped")

    async def take(self, drafts: Sequence[Draft]) -> Sequence[Taken]:
        """Keep each draft: see the port."""
        publisher = await self._open()
        if publisher is None:
            return [Taken(self._problem, again=True)] * len(drafts)
        outcomes: dict[UUID, Taken] = {}
        fresh: dict[StreamId, list[Draft]] = {}
        for draft in drafts:
            id_ = _id(draft)
            if id_ in self._kept:
                outcomes[id_] = Taken(repeated=True)
            elif id_ in outcomes or id_ in self._being_taken:
                outcomes.setdefault(id_, Taken("another request is handing it over", again=True))
            else:
                outcomes[id_] = self._room(publisher, draft.stream, fresh)
                if outcomes[id_].refused is None:
                    fresh.setdefault(draft.stream, []).append(draft)
        with self._reserved([_id(draft) for group in fresh.values() for draft in group]):
            answers = await asyncio.gather(*(self._append(publisher, group) for group in fresh.values()))
        for group, taken in zip(fresh.values(), answers, strict=True):
            outcomes.update((_id(draft), each) for draft, each in zip(group, taken, strict=True))
        first: set[UUID] = set()
        return [_once(outcomes[id_], first, id_) for id_ in map(_id, drafts)]

    @property
    def problem(self) -> str | None:
        """Why no events are taken now; None when they are."""
        return None if self._publisher is not None else self._problem

    def waiting(self) -> dict[str, int]:
        """Return how many events wait for each path."""
        if self._publisher is None:
            return {}
        return {str(path): count for path, count in self._publisher.status().spool.waiting.items()}

    def lost(self, stream: StreamId) -> bool:
        """Tell whether a stream is another owner's at this moment."""
        return self._publisher is not None and stream in self._publisher.status().supabase.lost

    def _room(self, publisher: Publisher, stream: StreamId, fresh: dict[StreamId, list[Draft]]) -> Taken:
        heads = publisher.spool.heads()
        known = stream in heads or stream in fresh
        if known or len(heads.keys() | fresh.keys()) < self._max_streams:
            return Taken()
        return Taken(f"this service has {self._max_streams} streams already; use streams that are there")

    @contextlib.contextmanager
    def _reserved(self, ids: Sequence[UUID]) -> Iterator[None]:
        self._being_taken.update(ids)
        try:
            yield
        finally:
            self._being_taken.difference_update(ids)

    async def _append(self, publisher: Publisher, drafts: Sequence[Draft]) -> Sequence[Taken]:
        """Keep the drafts of one stream, or say why not; of a batch with a bad one, the others."""
        try:
            await publisher.append(drafts, open_seconds=_OPEN_SECONDS)
        except InvalidEvent as error:
            if len(drafts) == 1:
                return [Taken(error.reason)]
            return await self._append_each(publisher, drafts)
        except SpoolError as error:
            return [Taken(str(error), again=True)] * len(drafts)
        except ExceptionGroup as error:  # a forwarder ended for good: a bug, or a damaged file
            log.exception("forwarding has ended; it is begun again with the next events")
            await self._close(f"forwarding has ended: {error.exceptions[0]}")
            return [Taken(self._problem, again=True)] * len(drafts)
        for draft in drafts:
            self._remember(_id(draft))
        return [Taken()] * len(drafts)

    async def _append_each(self, publisher: Publisher, drafts: Sequence[Draft]) -> Sequence[Taken]:
        taken: list[Taken] = []
        for draft in drafts:
            if taken and taken[-1].again:
                taken.append(taken[-1])
            else:
                taken.extend(await self._append(publisher, [draft]))
        return taken

    def _remember(self, id_: UUID) -> None:
        self._kept[id_] = None
        if len(self._kept) > REMEMBERED:
            self._kept.popitem(last=False)

    async def _open(self) -> Publisher | None:
        """Return the open publisher; None when it cannot be opened, and why is in ``_problem``."""
        now = asyncio.get_running_loop().time()
        if self._publisher is not None or now - self._tried_at < _AGAIN_SECONDS:
            return self._publisher
        self._tried_at = now
        try:
            async with AsyncExitStack() as stack:
                spool = stack.enter_context(Spool.open(self._path, retain_events=REMEMBERED))
                publisher = Publisher(
                    spool,
                    database_url=self._database_url,
                    legacy_url=self._legacy_url,
                    legacy_token=self._legacy_token() if self._legacy_url else "",
                )
                self._recall(spool)
                await stack.enter_async_context(publisher)
                self._stack = stack.pop_all()
        except (AdapterError, LegacyError) as error:
            if str(error) != self._problem:
                log.warning("no events are taken: %s", error)
            self._problem = str(error)
        else:
            self._publisher = publisher
        return self._publisher

    def _recall(self, spool: Spool) -> None:
        self._kept.clear()
        position = max(0, spool.position - REMEMBERED)
        while rows := spool.read(position, _READ):
            position = rows[-1][0]
            for _, event in rows:
                self._remember(event.id)

    async def _close(self, problem: str) -> None:
        self._publisher, self._problem = None, problem
        with contextlib.suppress(ExceptionGroup):  # what had ended it was said when it happened
            await self._stack.aclose()


def _once(taken: Taken, before: set[UUID], id_: UUID) -> Taken:
    """Return what became of an event; of one that came twice in a batch, that the second repeats the first."""
    if id_ in before and taken.refused is None:
        return replace(taken, repeated=True)
    before.add(id_)
    return taken


def _id(draft: Draft) -> UUID:
    if draft.id is None:
        raise ValueError("a draft that is handed over needs an id")
    return draft.id
