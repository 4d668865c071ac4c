"""The errors of this package.

::

    AlertingError
    ├── InvalidRules        the rule file says something that cannot be meant; the line is told
    ├── StoreUnusable       the state cannot be read or kept
    └── NotDelivered        a channel did not take a message
"""

from __future__ import annotations


class AlertingError(Exception):
    """Base of what this package raises; the message says what happened, where, and what to do."""


class InvalidRules(AlertingError):  # noqa: N818 - named for what it is, like the port's errors
    """A rule file that cannot be meant; ``line`` counts from 1, None when no line is to blame."""

    def __init__(self, reason: str, *, line: int | None = None) -> None:
        super().__init__(reason if line is None else f"line {line}: {reason}")
        self.reason = reason
        self.line = line


class StoreUnusable(AlertingError):  # noqa: N818
    """The file with the state of the alerts cannot be used."""


class NotDelivered(AlertingError):  # noqa: N818
    """A channel did not take a message; ``lasting`` when trying again would not help."""

    def __init__(self, reason: str, *, lasting: bool = False) -> None:
        super().__init__(reason)
        self.lasting = lasting
