"""What a service leans on, looked at by using it: how long that took, and the last error there was."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from monitoring.health import Finding

_DEADLINE_SECONDS = 3.0

Check = Callable[[], Awaitable[str]]
"""Uses the component; returns a few words, raises when it does not do its work."""


@dataclass(frozen=True, slots=True)
class Component:
    """One thing that a service leans on; without a ``required`` one it is of no use."""

    name: str
    check: Check
    required: bool = True


class Components:
    """Remembers the last error of each component."""

    def __init__(self, components: Sequence[Component]) -> None:
        self._components = tuple(components)
        self._errors: dict[str, tuple[str, datetime]] = {}

    async def look(self) -> list[Finding]:
        """Look at all of them at once; never raises."""
        return list(await asyncio.gather(*map(self._look, self._components)))

    async def _look(self, component: Component) -> Finding:
        began = time.perf_counter()
        detail, ok = "", True
        try:
            async with asyncio.timeout(_DEADLINE_SECONDS):
                detail = await component.check()
        except TimeoutError:
            detail, ok = f"no answer in {_DEADLINE_SECONDS:g} s", False
        except Exception as error:  # noqa: BLE001 - drivers raise what they like; each failure is a finding
            detail, ok = " ".join(str(error).split()) or type(error).__name__, False
        if not ok:
            self._errors[component.name] = (detail, datetime.now(UTC))
        last, at = self._errors.get(component.name, (None, None))
        latency_ms = 1000 * (time.perf_counter() - began)
        return Finding(component.name, ok, latency_ms, detail, component.required, last, at)
