"""What the parts of an installation say of themselves in the data directory, for a service's health."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from crossfade.paths import read_json
from crossfade.plan import running_state

if TYPE_CHECKING:
    from crossfade.paths import DataDir


@dataclass(frozen=True, slots=True)
class DataDirReports:
    """Reads small files that are replaced in one step; each call reads anew."""

    data: DataDir

    def collect(self) -> tuple[Mapping[str, Any] | None, float | None]:
        """Return the collecting process's report and its age in seconds; None and None when there is none."""
        path = self.data.run / "collect.json"
        report = read_json(path)
        if report is None:
            return None, None
        try:
            return report, max(0.0, time.time() - path.stat().st_mtime)
        except OSError:  # removed meanwhile
            return None, None

    def parts(self) -> Sequence[Mapping[str, Any]]:
        """Return the supervisor's parts; none when nothing supervises."""
        state = running_state(self.data)
        return state.get("parts", []) if state else []
