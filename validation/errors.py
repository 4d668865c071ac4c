"""The errors of validation.

::

    ValidationError
    ├── InconsistentResult   figures that do not add up: a mistake in this package
    ├── InvalidFigures       figures or thresholds that make no sense: a mistake of whoever gave them
    ├── InvalidRules         rules for fields that cannot be meant
    ├── InvalidRecording     a recording that is none, or of another version
    └── TruthUnreadable      the record of what was published cannot be read
"""

from __future__ import annotations


class ValidationError(Exception):
    """Base of every error this package raises."""


class InconsistentResult(ValidationError):  # noqa: N818 - named for what it is
    """Figures that do not add up."""


class InvalidFigures(ValidationError):  # noqa: N818
    """Figures or thresholds that make no sense."""


class InvalidRecording(ValidationError):  # noqa: N818
    """A recording that is none, or of another version."""


class InvalidRules(ValidationError):  # noqa: N818
    """Rules for fields that cannot be meant."""


class TruthUnreadable(ValidationError):  # noqa: N818
    """The record of what was published cannot be read."""
