"""One POSIX script for many commands, and its output taken apart again: pure.

The script goes to ``sh -s`` on stdin, so that nothing has to be quoted for the login shell. Each command's output stands
between two lines that begin with a mark made new for each run, on stdout and stderr alike: what a command prints, or a
container is called, cannot be mistaken for another command's. Commands read /dev/null, never the script, and bound
themselves with ``limit SECONDS COMMAND``, which is ``timeout`` in the form that the machine knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from collectors.ssh.text import words

MISSING = 127
"""A shell's exit status for a command that is not there; ours use it for a missing file, too."""
TIMED_OUT = frozenset({124, 143})
"""Of ``timeout``: GNU's own status, and BusyBox's of a process that was told to end."""

_PROLOGUE = """\
LC_ALL=C LANG=C; export LC_ALL LANG
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin${PATH:+:$PATH}; export PATH
if timeout 9 true; then limit() { timeout "$@"; }
elif timeout -t 9 true; then limit() { cf_n=$1; shift; timeout -t "$cf_n" "$@"; }
else limit() { shift; "$@"; }
fi </dev/null >/dev/null 2>&1
have() { command -v "$1" >/dev/null 2>&1; }
cf_mark() { printf '\\n%s%s\\n' "$cf_m" "$1"; printf '\\n%s%s\\n' "$cf_m" "$1" >&2; }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """What one command printed, and its exit status."""

    status: int
    output: str
    complaint: str = ""
    """What it said on stderr."""


def build(shells: Mapping[str, str], mark: str) -> str:
    """Return the script that runs each named shell text in a subshell of its own, in order.

    ``mark`` must be unguessable letters and digits; names are letters, digits and hyphens.
    """
    parts = [_PROLOGUE, f"cf_m='{mark}'\n"]
    for name, shell in shells.items():
        parts.append(f"cf_mark '<{name}'\n(\n{shell.strip()}\n) </dev/null; cf_mark \">$?\"\n")
    parts.append("cf_mark .\n")
    return "".join(parts)


def split(output: str, complaints: str, mark: str) -> tuple[dict[str, Section], bool]:
    """Return each command's section, and whether the script came to its end. Never raises.

    A command without its closing line is left out: it was cut short.
    """
    outputs, complete = _sections(output, mark)
    told, _ = _sections(complaints, mark)
    return {
        name: Section(status, text, told[name][1] if name in told else "")
        for name, (status, text) in outputs.items()
    }, complete


def _sections(text: str, mark: str) -> tuple[dict[str, tuple[int, str]], bool]:
    found: dict[str, tuple[int, str]] = {}
    name: str | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        if not line.startswith(mark):
            lines.append(line)
            continue
        rest = line.removeprefix(mark).strip()
        if rest.startswith("<"):
            name, lines = rest[1:], []
        elif rest.startswith(">") and name is not None:
            status = rest[1:]
            if status.isascii() and status.isdigit():
                # The newline before the mark is the mark's own, not the command's.
                found.setdefault(name, (int(status[:3]), "\n".join(lines)))
            name = None
        elif rest == ".":
            return found, True
    return found, False


def first_line(texts: Iterable[str], limit: int = 300) -> str:
    """Return the first line that says something, as it may be shown and stored."""
    return next((said for text in texts for line in text.splitlines() if (said := words(line, limit))), "")
