"""The errors of validation.

::

    ValidationError
    ├── InconsistentResult   figures that do not add up: a mistake in this package
    └── TruthUnreadable      the record of what was published cannot be read
"""

from __future__ import annotations


class ValidationError(Exception):
    """Base of every error this package raises."""


class InconsistentResult(ValidationError):  # noqa: N818 - named for what it is
    """Figures that do not add up."""


class TruthUnreadable(ValidationError):  # noqa: N818
    """The record of what was published cannot be read."""
