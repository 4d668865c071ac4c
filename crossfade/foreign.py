"""Another's server in the place of our legacy one: which it is, and the dialect that it speaks.

``CROSSFADE_LEGACY_URL`` names it; ``CROSSFADE_LEGACY_DIALECT`` is a dialect that comes with Crossfade, a Python file with
one (docs/writing-a-dialect.md), or ``module:Class``.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from adapters.legacy_dialect import shown
from crossfade.errors import UsageError
from crossfade.plan import running_state
from legacy_ws.protocol.foreign import ForeignDialect
from legacy_ws.protocol.plain_dashboard import PlainDashboard

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

    from crossfade.paths import DataDir
    from crossfade.settings import Settings

BUILT_IN: Mapping[str, Callable[[], ForeignDialect]] = {"plain-dashboard": PlainDashboard}
"""The dialects that come with Crossfade, by name."""

_SETTING = "CROSSFADE_LEGACY_DIALECT"


@dataclass(frozen=True, slots=True)
class ForeignServer:
    """A server that is not ours. ``dialect`` is as in the setting, a file by its absolute path."""

    url: str
    dialect: str

    @property
    def shown(self) -> str:
        """The address for people: without what may be a secret in it."""
        return shown(self.url)

    def load(self) -> ForeignDialect:
        """Return the dialect; raises UsageError."""
        return load_dialect(self.dialect)

    def to_json(self) -> dict[str, Any]:
        """Return its form in ``state.json``."""
        return {"url": self.url, "dialect": self.dialect}


def foreign_server(settings: Settings, data: DataDir | None = None) -> ForeignServer | None:
    """Return the server of the settings, else that of what runs on the data directory; None when it is our own."""
    if settings.legacy_url is not None:
        path, colon, name = _file(settings.legacy_dialect)
        dialect = f"{Path(path).expanduser().absolute()}{colon}{name}" if path else settings.legacy_dialect
        return ForeignServer(settings.legacy_url, dialect)
    said = (running_state(data) or {}).get("foreign") if data is not None else None
    if isinstance(said, dict) and {"url", "dialect"} <= said.keys():
        return ForeignServer(str(said["url"]), str(said["dialect"]))
    return None


def load_dialect(text: str) -> ForeignDialect:
    """Return the dialect of a setting; raises UsageError that says which there are."""
    if text in BUILT_IN:
        return BUILT_IN[text]()
    path, _, name = _file(text)
    if path:
        return _made(_from_file(Path(path).expanduser()), name, text)
    module, colon, name = text.partition(":")
    if not colon:
        raise UsageError(
            f"{_SETTING}: {text!r} is no dialect; there are {', '.join(BUILT_IN)}, and your own: a file that ends in "
            ".py, or module:Class"
        )
    try:
        return _made(importlib.import_module(module), name, text)
    except ImportError as error:
        raise UsageError(f"{_SETTING}: {module!r} cannot be imported: {error}") from error


def _file(text: str) -> tuple[str, str, str]:
    """Split ``file.py:Class``; the path is empty when no file is meant."""
    path, colon, name = text.rpartition(":") if not text.endswith(".py") else (text, "", "")
    return (path, colon, name) if path.endswith(".py") else ("", "", "")


def _from_file(path: Path) -> ModuleType:
    name = f"crossfade_dialect_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise UsageError(f"{_SETTING}: {path} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    try:
        spec.loader.exec_module(module)
    except OSError as error:
        raise UsageError(f"{_SETTING}: {path} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise UsageError(
            f"{_SETTING}: {path} cannot be run: {type(error).__name__}: {error}; python {path} shows where"
        ) from error
    return module


def _made(module: ModuleType, name: str, text: str) -> ForeignDialect:
    """Return a dialect of a module: the class of a name, or the only one."""
    found: list[Any] = [
        each
        for each in vars(module).values()
        if inspect.isclass(each) and ForeignDialect in each.__mro__ and not inspect.isabstract(each)
        if (each.__name__ == name if name else each.__module__ == module.__name__)
    ]
    if len(found) != 1:
        has = ", ".join(each.__name__ for each in found) or "none"
        raise UsageError(
            f"{_SETTING}: {text} must name one class that is a dialect and has no abstract method left; found: {has}"
        )
    try:
        made = found[0]()
    except Exception as error:
        raise UsageError(
            f"{_SETTING}: {found[0].__name__}() fails: {type(error).__name__}: {error}"
        ) from error
    return cast("ForeignDialect", made)
