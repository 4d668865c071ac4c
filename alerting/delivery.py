"""Messages to people: a channel's apprise URL, tried a few times with growing pauses, each with a deadline.

apprise knows well over a hundred services. It blocks, tells success by a boolean and reasons by its log; both are turned
into ours here.
"""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path

import apprise
import stamina

from alerting.errors import NotDelivered
from alerting.notices import Message
from alerting.rules import Channel, Severity

ATTEMPTS = 3
SECONDS = 15.0
"""Deadline of one attempt."""
_TYPES = {
    Severity.INFO: apprise.NotifyType.INFO,
    Severity.WARNING: apprise.NotifyType.WARNING,
    Severity.CRITICAL: apprise.NotifyType.FAILURE,
}
_SECRETS = re.compile(r"[a-z][a-z0-9+.-]*://\S+", re.IGNORECASE)


def url_of(channel: Channel, directory: Path) -> str:
    """Return a channel's URL; raises NotDelivered when its file cannot be read."""
    if channel.url:
        return channel.url
    path = directory / channel.url_file
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NotDelivered(f"channel {channel.name}: {path} cannot be read: {error}", lasting=True) from None


def check(channel: Channel, directory: Path) -> None:
    """Raise NotDelivered when a channel's URL cannot be meant; nothing is sent."""
    if not apprise.Apprise().add(url_of(channel, directory)):
        raise NotDelivered(
            f"channel {channel.name}: its URL is none that apprise knows (its text is not shown, it is a secret)",
            lasting=True,
        )


async def deliver(channel: Channel, message: Message, directory: Path, *, attempts: int = ATTEMPTS) -> None:
    """Deliver a message; raises NotDelivered with the reason of the last attempt."""
    check(channel, directory)
    async for attempt in stamina.retry_context(
        on=lambda error: isinstance(error, NotDelivered) and not error.lasting,
        attempts=attempts,
        timeout=None,
        wait_initial=0.3,
        wait_max=5.0,
    ):
        with attempt:
            await _once(channel, message, directory)


async def _once(channel: Channel, message: Message, directory: Path) -> None:
    sender = apprise.Apprise()
    sender.add(url_of(channel, directory))
    kind = apprise.NotifyType.SUCCESS if message.resolved else _TYPES[message.severity]
    with _Reasons() as reasons:
        try:
            async with asyncio.timeout(SECONDS):
                # In a thread of ours, which a service that hangs keeps; its own sockets have deadlines as well.
                taken = await asyncio.to_thread(
                    sender.notify, body=message.body, title=message.title, notify_type=kind
                )
        except TimeoutError:
            raise NotDelivered(f"channel {channel.name}: no answer within {SECONDS:g} s") from None
        except Exception as error:
            raise NotDelivered(
                f"channel {channel.name}: {_masked(f'{type(error).__name__}: {error}')}"
            ) from error
    if not taken:
        why = _masked(reasons.last) if reasons.last else "the service did not take it"
        raise NotDelivered(f"channel {channel.name}: {why}")


class _Reasons(logging.Handler):
    """Listens for why apprise failed; it says so in its log alone."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last: str | None = None
        self._logger = logging.getLogger("apprise")

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the newest."""
        self.last = " ".join(record.getMessage().split())

    def __enter__(self) -> _Reasons:  # noqa: PYI034 - one class alone
        self._logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._logger.removeHandler(self)


def _masked(text: str) -> str:
    """Leave out what looks like a URL: those of channels hold secrets."""
    return _SECRETS.sub("(address)", text)[:300]
