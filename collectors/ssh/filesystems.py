"""File systems of another machine: ``/proc/mounts`` and ``df``, of GNU and of BusyBox. Pure.

Mount points may have spaces in them, and so may, rarely, the device. ``df -P`` keeps each in one line, but BusyBox builds
that know no -P break the line after a long device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from collectors.ssh.errors import Unreadable
from collectors.ssh.text import count

_OCTAL = re.compile(r"\\([0-7]{3})")
_ROW = re.compile(r"(\S.*?)\s+(\d+|-)\s+(\d+|-)\s+(-?\d+|-)\s+(\d+%|-)\s+(/.*)\Z")
_LONGEST_LINE = 4096


@dataclass(frozen=True, slots=True)
class Row:
    """One line of ``df``; None where it has a hyphen. ``available`` may be less than total - used: root's reserve."""

    device: str
    total: int | None
    used: int | None
    available: int | None
    mount: str


def parse_mounts(text: str) -> list[tuple[str, str, str]]:
    """Read ``/proc/mounts``: (mount point, device, file system type), in order. Raises Unreadable."""
    found = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) >= 4 and fields[1].startswith("/"):  # noqa: PLR2004 - device, mount, type, options
            found.append((_plain(fields[1]), _plain(fields[0]), fields[2]))
    if not found:
        raise Unreadable("no mounts")
    return found


def _plain(field: str) -> str:
    r"""Undo the kernel's escapes: ``\040`` is a space."""
    return _OCTAL.sub(lambda found: chr(int(found[1], 8)), field)


def parse_df(text: str) -> list[Row]:
    """Read ``df -P -k`` (sizes in KiB) or ``df -P -i`` (inodes). Raises Unreadable when no line is one of df's."""
    rows = [
        Row(found[1], count(found[2]), count(found[3]), _signed(found[4]), found[6])
        for found in map(_ROW.match, _unbroken(text))
        if found
    ]
    if not rows:
        raise Unreadable("df lists nothing")
    return rows


def _signed(text: str) -> int | None:
    """Read what is left; nothing is left where a full disk has less than its reserve."""
    return 0 if text.startswith("-") and len(text) > 1 else count(text)


def _unbroken(text: str) -> Iterator[str]:
    """Join a device that stands alone in its line with the next one."""
    device = ""
    for line in text.splitlines():
        if len(line) > _LONGEST_LINE:
            continue
        whole = f"{device} {line.strip()}" if device and line[:1].isspace() else line
        device = line.strip() if len(line.split()) == 1 else ""
        yield whole
