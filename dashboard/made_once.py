"""What is made once for all tabs and viewers: answers to what was asked, and the charts of a host's samples."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from dashboard import charts
from dashboard.charts import Drawn
from dashboard.model import HostView
from dashboard.readings import Sample

MOST_ASKED = 64
"""Answers that are kept at once: histories, each of one host over one range, and the like."""
_MOST_DRAWN = 4
"""Pictures of one host that are kept at once: viewers on two backends see the same a little apart."""

_T = TypeVar("_T")


class MadeOnce:
    """Safe to use from every thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked: dict[Hashable, Any] = {}
        self._asking: dict[Hashable, threading.Lock] = {}
        self._drawn: dict[str, list[tuple[tuple[Sample, ...], Drawn]]] = {}

    def answer(self, key: Hashable, ask: Callable[[], _T]) -> _T:
        """Return what ``ask`` returned for this key, asking once for all; the newest answers are kept.

        Whoever wants the same meanwhile waits for it, and nobody else does. What ``ask`` raises is raised, and asked
        again the next time.
        """
        with self._lock:
            if key in self._asked:
                known: _T = self._asked[key]
                return known
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:
            with self._lock:
                if key in self._asked:
                    waited_for: _T = self._asked[key]
                    return waited_for
            try:
                found = ask()
                with self._lock:
                    while len(self._asked) >= MOST_ASKED:
                        self._asked.pop(next(iter(self._asked)))
                    self._asked[key] = found
                return found
            finally:
                with self._lock:
                    self._asking.pop(key, None)

    def drawn(self, host: HostView) -> Drawn:
        """Return the charts of a host; made once for the same samples, and not at all while nobody looks."""
        with self._lock:
            known = self._drawn.setdefault(host.name, [])
            for samples, made in known:
                if samples is host.samples or samples == host.samples:
                    return made
            drawn = charts.drawn(host.samples)
            self._drawn[host.name] = [(host.samples, drawn), *known[: _MOST_DRAWN - 1]]
            return drawn
