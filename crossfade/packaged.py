"""Files that come with the program: in a checkout they lie at its top, in a wheel inside the packages."""

from __future__ import annotations

from pathlib import Path

from crossfade.errors import CrossfadeError

_PACKAGE = Path(__file__).parent
_TOP = _PACKAGE.parent


def migrations() -> Path:
    """Return the directory of our migrations."""
    return _first(_TOP / "supabase" / "migrations", _PACKAGE / "migrations")


def default_flags() -> Path:
    """Return the flag file to begin with."""
    return _first(_TOP / "flags.yaml", _PACKAGE / "flags.default.yaml")


def default_alerts() -> Path:
    """Return the rule file to begin with."""
    return _first(_TOP / "alerts.yaml", _PACKAGE / "alerts.default.yaml")


def dashboard_script() -> Path:
    """Return the script that Streamlit runs."""
    return _first(_TOP / "streamlit_app.py", _TOP / "dashboard" / "streamlit_app.py")


def _first(*places: Path) -> Path:
    for place in places:
        if place.exists():
            return place
    raise CrossfadeError(f"{places[-1]} is missing from this installation; install crossfade again")
