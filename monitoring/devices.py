"""A device of the registry: where it is and how to get in. Pure.

Secrets are never part of it: a password, or a key's passphrase, is named by where it is kept, ``env:NAME`` or
``file:PATH`` (docs/adr/0016).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from monitoring.errors import InvalidDevice, InvalidEvent
from monitoring.events import StreamId, stream_id

_HOST = re.compile(r"[A-Za-z0-9_\[][A-Za-z0-9._:%\[\]-]{0,254}\Z")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@\\+-]{0,63}\$?\Z")
_SECRET = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,127}\Z|file:\S[^\x00-\x1f]{0,1000}\Z")
_SECONDS = (1.0, 604_800.0)


@dataclass(frozen=True, slots=True)
class Device:
    """One device; of the intervals None means the installation's own."""

    name: str
    host: str
    user: str
    port: int = 22
    key_file: str | None = None
    passphrase_from: str | None = None
    """Where the passphrase of the key is kept."""
    agent: bool = False
    """Whether the SSH agent of the collecting process may be asked."""
    password_from: str | None = None
    """Where the password is kept."""
    jump: str | None = None
    """Another device, through which this one is reached."""
    monitoring_enabled: bool = True
    container_interval: float | None = None
    system_interval: float | None = None
    drive_interval: float | None = None
    description: str | None = None
    host_key: str | None = None
    """The host key that was accepted, as a line of a ``.pub`` file has it."""

    def stream(self, category: str) -> StreamId:
        """Return the stream of one category of the device's events."""
        return stream_id(self.name, category)

    @property
    def where(self) -> str:
        """The address as people write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.user}@{host}" + ("" if self.port == 22 else f":{self.port}")  # noqa: PLR2004 - SSH's own


def _name(value: Any) -> str:
    try:
        stream_id(str(value), "system")
    except InvalidEvent as error:
        raise InvalidDevice(error.reason.removeprefix("device ")) from None
    return str(value)


def _matching(pattern: re.Pattern[str], what: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not pattern.match(value):
            raise InvalidDevice(f"{value!r} is not {what}")
        return value

    return check


def _secret(value: Any) -> str:
    if not isinstance(value, str) or not _SECRET.match(value):
        # Not repeated: it may be the secret itself.
        raise InvalidDevice(
            "expected env:NAME or file:PATH, which is where the secret is kept, not the secret"
        )
    return value


def _line(value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or len(value) > 1000 or not value.isprintable():  # noqa: PLR2004 - a line
        raise InvalidDevice("expected one line of text")
    return value.strip()


def _port(value: Any) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:6]) <= 65535:  # noqa: PLR2004 - ports
        raise InvalidDevice(f"{text} is not a port from 1 to 65535")
    return int(text)


def _switch(value: Any) -> bool:
    if value not in (True, False, "true", "false"):
        raise InvalidDevice(f"{value!r} is neither true nor false")
    return value in (True, "true")


def _interval(value: Any) -> float:
    low, high = _SECONDS
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        seconds = 0.0
    if not low <= seconds <= high:
        raise InvalidDevice(f"{value!r} is not a number of seconds from {low:g} to {high:g}")
    return seconds


FIELDS: Mapping[str, Callable[[Any], Any]] = {
    "name": _name,
    "host": _matching(_HOST, "a host name or address"),
    "user": _matching(_USER, "a user name"),
    "port": _port,
    "key_file": _line,
    "passphrase_from": _secret,
    "agent": _switch,
    "password_from": _secret,
    "jump": _name,
    "monitoring_enabled": _switch,
    "container_interval": _interval,
    "system_interval": _interval,
    "drive_interval": _interval,
    "description": _line,
}
"""What people may write of a device, and how it is read; each raises InvalidDevice."""

REQUIRED = ("name", "host", "user")


def make(values: Mapping[str, Any], *, host_key: str | None = None) -> Device:
    """Return the device that values describe; None is a field that was not given. Raises InvalidDevice."""
    known: dict[str, Any] = {}
    for field, value in values.items():
        if field not in FIELDS:
            raise InvalidDevice(f"there is no field {field!r}; fields are {', '.join(FIELDS)}", field)
        if value is None:
            continue
        try:
            known[field] = FIELDS[field](value)
        except InvalidDevice as error:
            raise InvalidDevice(f"{field}: {error.reason}", field) from None
    missing = [field for field in REQUIRED if field not in known]
    if missing:
        raise InvalidDevice(f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing")
    device = Device(**known, host_key=host_key)
    if not (device.key_file or device.agent or device.password_from):
        raise InvalidDevice(
            "there is no way in: give key_file (--key-file), agent (--agent) or password_from (--password-from)"
        )
    if device.passphrase_from and not device.key_file:
        raise InvalidDevice("passphrase_from is of a key_file, and there is none", "passphrase_from")
    if device.jump == device.name:
        raise InvalidDevice("a device cannot be its own jump host", "jump")
    return device


def described(device: Device) -> dict[str, Any]:
    """Return the device as people write it: the fields of `FIELDS`."""
    return {field.name: getattr(device, field.name) for field in fields(device) if field.name in FIELDS}


def check_jumps(devices: Mapping[str, Device]) -> None:
    """Check that every jump host is a device and that none leads back to itself. Raises InvalidDevice."""
    for device in devices.values():
        seen = {device.name}
        at = device
        while at.jump is not None:
            if at.jump not in devices:
                raise InvalidDevice(f"{at.name}: its jump host {at.jump!r} is not a device", "jump")
            if at.jump in seen:
                raise InvalidDevice(f"{device.name}: its jump hosts lead in a circle", "jump")
            seen.add(at.jump)
            at = devices[at.jump]
