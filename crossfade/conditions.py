"""What judges know, kept in the data directory over restarts (docs/adr/0014)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from collectors.judge import from_json, to_json
from crossfade.paths import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from monitoring.device_status import Condition

log = logging.getLogger(__name__)


class Conditions:
    """The conditions of devices and checks in one small file.

    What cannot be read is unknown again, and what cannot be written is said: neither stops a collector.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.remembered: Mapping[str, Condition] = self._load()

    def _load(self) -> dict[str, Condition]:
        found = {}
        for subject, value in (read_json(self._path) or {}).items():
            try:
                found[subject] = from_json(value)
            except (KeyError, TypeError, ValueError, AttributeError):
                log.warning(
                    "%s: what it says of %s cannot be read; its status is unknown", self._path, subject
                )
        return found

    def keep(self, conditions: Mapping[str, Condition]) -> None:
        """Keep these, and those of subjects that nobody has read since the start."""
        self.remembered = {**self.remembered, **conditions}
        try:
            write_json(self._path, {subject: to_json(known) for subject, known in self.remembered.items()})
        except OSError as error:
            log.warning("the conditions of devices cannot be kept: %s: %s", self._path, error)
