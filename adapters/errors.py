"""The base of this package's errors; what concerns one adapter only is declared beside it."""

from __future__ import annotations


class AdapterError(Exception):
    """Base of every error that an adapter raises of its own; the port's errors are in ``monitoring.errors``."""
