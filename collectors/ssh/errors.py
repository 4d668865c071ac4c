"""What goes wrong with a device; each is one sentence for a person.

::

    CollectorError
    └── SshError
        ├── Unreachable         nothing answers there, or what answers speaks no SSH
        ├── AccessRefused       the device let nobody in: wrong user, key or password
        ├── CredentialsMissing  a key or password that this machine should have cannot be read
        ├── HostKeyUnknown      the device's host key was never accepted, and may not be taken on trust
        ├── HostKeyChanged      the device shows another host key than the one that was stored
        ├── TooSlow             connected, but no answer within the deadline
        ├── Garbled             what came back is not the output of our script
        └── Resting             several attempts failed; the device is left alone for a while

    Unreadable(ValueError)      one command's output cannot be read; the others are not concerned
"""

from __future__ import annotations

from dataclasses import dataclass

from collectors.collector import CollectorError
from monitoring.device_status import Outcome


class SshError(CollectorError):
    """Base of the errors of one device."""


class Unreachable(SshError):  # noqa: N818 - named for what it is, like the others of the tree
    """No SSH server answers."""

    outcome = Outcome.SILENT


class AccessRefused(SshError):  # noqa: N818 - see above
    """The device let nobody in."""

    outcome = Outcome.REFUSED


class CredentialsMissing(SshError):  # noqa: N818 - see above
    """A key or password cannot be read on this machine."""

    outcome = Outcome.REFUSED


@dataclass(frozen=True, slots=True)
class HostKey:
    """A device's host key: as a ``.pub`` file has it, and as people compare it."""

    line: str
    fingerprint: str


class HostKeyUnknown(SshError):  # noqa: N818 - see above
    """Nobody has accepted the device's host key yet. ``shown`` is the one it shows."""

    outcome = Outcome.REFUSED

    def __init__(self, message: str, shown: HostKey) -> None:
        super().__init__(message)
        self.shown = shown


class HostKeyChanged(SshError):  # noqa: N818 - see above
    """The device shows another host key than the stored one."""

    outcome = Outcome.REFUSED

    def __init__(self, message: str, *, shown: HostKey, stored: HostKey) -> None:
        super().__init__(message)
        self.shown = shown
        self.stored = stored


class TooSlow(SshError):  # noqa: N818 - see above
    """No answer within the deadline."""

    outcome = Outcome.SILENT


class Garbled(SshError):  # noqa: N818 - see above
    """What came back is no answer of ours."""


class Resting(SshError):  # noqa: N818 - see above
    """The device is not asked now, for ``retry_seconds`` still, after what ``because`` says, in the same words."""

    def __init__(self, because: SshError, retry_seconds: float) -> None:
        super().__init__(str(because))
        self.outcome = because.outcome
        self.because = because
        self.retry_seconds = retry_seconds


class Unreadable(ValueError):  # noqa: N818 - see above
    """One command's output cannot be read; the message says why, for people."""
