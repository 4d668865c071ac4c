"""Which machine this is: os-release, uname, machine-id. Pure."""

from __future__ import annotations

import re

from collectors.ssh.errors import Unreadable
from collectors.ssh.text import words

_ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)\Z")
_ESCAPED = re.compile(r"\\(.)")


def parse_identity(text: str) -> dict[str, str | None]:
    """Read lines ``hostname=``, ``kernel=``, ``machine=``, ``machine_id=`` of ours, and those of os-release (5).

    Raises Unreadable when none of it is there.
    """
    ours: dict[str, str] = {}
    release: dict[str, str] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and name in {"hostname", "kernel", "machine", "machine_id"}:
            ours[name] = value
        elif assigned := _ASSIGNMENT.match(line):
            release.setdefault(assigned[1], _unquoted(assigned[2].strip()))
    if not ours and not release:
        raise Unreadable("no name of the system")
    return {
        "hostname": words(ours.get("hostname")),
        "name": words(release.get("PRETTY_NAME") or release.get("NAME")),
        "id": words(release.get("ID")),
        "version": words(release.get("VERSION_ID")),
        "kernel": words(ours.get("kernel")),
        "machine": words(ours.get("machine")),
        "machine_id": words(ours.get("machine_id")),
    }


def _unquoted(value: str) -> str:
    quote = value[:1]
    if quote in {'"', "'"} and len(value) > 1 and value.endswith(quote):
        value = value[1:-1]
    return value if quote == "'" else _ESCAPED.sub(r"\1", value)
