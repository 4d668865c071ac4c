"""A change of a flag by a person, from a command or a page: prepared, looked at, made and recorded. One way for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from adapters import flag_audit, flag_file
from adapters.rollout_journal import CeilingFile
from crossfade.errors import CrossfadeError, UsageError
from crossfade.plan import flags_file
from crossfade.wiring import Wiring, open_flags
from monitoring.errors import InvalidFlags
from monitoring.flags.description import differences
from monitoring.flags.editing import edit
from monitoring.flags.loading import load
from monitoring.flags.model import Flags


@dataclass(frozen=True, slots=True)
class FlagChange:
    """One key with another value: the file as it is and as it would be, and what each says."""

    path: Path
    text: str
    edited: str
    before: Flags
    after: Flags


def prepared(wiring: Wiring, key: str, value: str) -> FlagChange:
    """Return what setting a flag would change; nothing is written.

    Raises UsageError for a key or value that cannot be meant, CrossfadeError for a file that has to be corrected
    first, and FlagFileUnusable.
    """
    path = flags_file(wiring.data, wiring.settings)
    text = flag_file.read(path)
    try:
        before = load(text)
    except InvalidFlags as error:
        raise CrossfadeError(f"{path} was not changed, correct it first: {error}") from error
    try:
        edited = edit(text, key, value)
        return FlagChange(path, text, edited, before, load(edited))
    except InvalidFlags as error:  # the file being good, it is the key or the value
        raise UsageError(f"{path} was not changed: {error}") from error


def made(wiring: Wiring, change: FlagChange, why: str, who: str | None = None) -> Sequence[str]:
    """Write a change and record it; return what differs now, in words.

    ``who`` is by default the user of this process. Raises FlagFileConflict when somebody else was quicker, and
    FlagFileUnusable.
    """
    flag_file.write(change.path, change.edited, expected=change.text)
    changes = list(differences(change.before, change.after))
    flag_audit.record(wiring.data.flag_audit, change.path, changes, why, who)
    # In force from here on, also for what starts after the next mistake.
    open_flags(wiring.data, change.path, wiring.settings.switches).refresh()
    return changes


def in_force(wiring: Wiring, wish: Flags) -> Flags:
    """Return what a wish comes to under the rollout of this moment."""
    return replace(wish, ceiling=CeilingFile(wiring.data.rollout_journal).look())
