"""PostgreSQL's own words to our errors; the texts are those of PostgreSQL 18."""

from pathlib import Path

import pytest

from embedded import errors
from embedded.postgres_diagnosis import diagnose


@pytest.mark.parametrize(
    ("log", "expected", "says"),
    [
        (
            (
                'LOG:  could not bind IPv4 address "127.0.0.1": Address already in use\n'
                "HINT:  Is another postmaster already running on port 5432?\n"
                'WARNING:  could not create listen socket for "127.0.0.1"\n'
                "FATAL:  could not create any TCP/IP sockets\n"
            ),
            errors.PortTaken,
            "Port 5432",
        ),
        (
            (
                'FATAL:  lock file "postmaster.pid" already exists\n'
                'HINT:  Is another postmaster (PID 4711) running in data directory "/x"?\n'
            ),
            errors.AlreadyRunning,
            "pid 4711",
        ),
        (
            (
                "FATAL:  pre-existing shared memory block (key 1, ID 2) is still in use\n"
                'HINT:  Terminate any old server processes associated with data directory "/x".\n'
            ),
            errors.OldBackendsRunning,
            "Try again",
        ),
        (
            (
                "FATAL:  database files are incompatible with server\n"
                "DETAIL:  The data directory was initialized by PostgreSQL version 17, "
                "which is not compatible with this version 18.6.\n"
            ),
            errors.WrongMajorVersion,
            "made by PostgreSQL 17, but 18",
        ),
        (
            'FATAL:  could not write lock file "postmaster.pid": No space left on device',
            errors.DiskFull,
            "Free some",
        ),
        ("FATAL:  x: Read-only file system", errors.DataDirectoryUnusable, "read-only"),
        (
            'FATAL:  data directory "/x" has wrong ownership\nHINT:  ...',
            errors.DataDirectoryUnusable,
            "ownership",
        ),
        ('LOG:  x\nFATAL:  role "x" does not exist\nLOG:  bye', errors.StartFailed, 'role "x"'),
        ("something odd\n", errors.StartFailed, "something odd"),
        ("", errors.StartFailed, "said nothing"),
    ],
)
def test_causes(log, expected, says):
    found = diagnose(log, pgdata=Path("/x"), host="127.0.0.1", port=5432)
    assert type(found) is expected
    assert says in str(found)


def test_only_orphans_are_worth_another_try():
    assert errors.OldBackendsRunning(Path("/x"), (1, 2)).retryable
    assert "pids 1, 2" in str(errors.OldBackendsRunning(Path("/x"), (1, 2)))
    assert not errors.PortTaken("h", 1).retryable
