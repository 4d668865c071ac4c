"""What a client missed while it was away, told by what the server remembers: pure.

A server without ids cannot resume, but many tell a new client their last events. If the end of what we had is among
them, what follows it is exactly what we missed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from monitoring.fingerprint import Fingerprint


@dataclass(frozen=True, slots=True)
class Recalled:
    """Which of the remembered events are news, by index, and whether they are all there is."""

    news: tuple[int, ...]
    complete: bool


def recall(had: Sequence[Fingerprint], remembered: Sequence[Fingerprint]) -> Recalled:
    """Compare the last events that we had with those the server remembers; both in order, oldest first.

    When the memory does not follow on from what we had, what we never had is news, and something may lie between.
    Where several places would do, the earliest is taken: rather an event twice than one never.
    """
    ours, theirs = list(had), list(remembered)
    for end in range(1, len(theirs) + 1):
        length = min(end, len(ours))
        if length and theirs[end - length : end] == ours[-length:]:
            return Recalled(tuple(range(end, len(remembered))), complete=True)
    counted = Counter(had)
    news: list[int] = []
    for index, mark in enumerate(remembered):
        if counted[mark]:
            counted[mark] -= 1
        else:
            news.append(index)
    return Recalled(tuple(news), complete=False)
