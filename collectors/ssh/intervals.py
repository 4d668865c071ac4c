"""How often devices are read. Apart from what reads them, which takes 20 MiB to load."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Intervals:
    """Seconds between readings, for devices that have none of their own."""

    containers: float = 30.0
    system: float = 300.0
    drives: float = 3600.0
    watched: float = 10.0
    """Of containers and system metrics, while somebody watches the device by name; a shorter one stays."""
