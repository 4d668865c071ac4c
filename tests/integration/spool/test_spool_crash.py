"""The spool under a process that dies, a disk that is full, a directory that is read-only, and readers elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.spool import Spool
from adapters.spool_file import SpoolInUse
from adapters.spool_reader import SpoolReader
from monitoring.events import Kind, StreamId

SYSTEM = StreamId("web-1/system")
CONTAINERS = StreamId("web-1/containers")

_PRELUDE = """
import os, resource, sys
from datetime import UTC, datetime
from pathlib import Path
from adapters.spool import Spool
from adapters.spool_file import SpoolError
from monitoring.events import Draft, StreamId
streams = [StreamId("web-1/system"), StreamId("web-1/containers")]
def draft(n, size=300):
    return Draft(streams[n % 2], "metric_collected", datetime.now(UTC), {"n": n, "text": "x" * size})
"""

_APPEND_FOR_EVER = """
spool = Spool.open(Path(sys.argv[1]), retain_events=2000)
for stream in streams:
    if spool.epoch_of(stream) is None:
        spool.open_stream(stream, 1, None, datetime.now(UTC))
n = 0
while True:
    events = spool.append([draft(n + i) for i in range(n % 7 + 1)])
    n += len(events)
    # what was returned was promised: the parent checks that it is there after the kill
    os.write(1, f"{spool.position} {spool.heads()[streams[0]].seq} {spool.heads()[streams[1]].seq}\\n".encode())
    if n % 5 == 0:
        spool.acknowledge("supabase", spool.position - 3)
        spool.acknowledge("legacy", spool.position - 1)
"""


def child(code: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PRELUDE) + textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def test_ten_kills_leave_neither_holes_nor_doubles(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    seen: dict[int, str] = {}
    for round_ in range(10):
        process = child(_APPEND_FOR_EVER, str(path))
        assert process.stdout is not None
        promised = [process.stdout.readline() for _ in range(20 + 13 * round_)][-1]
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate()
        complete = [line for line in (promised + rest).splitlines(keepends=True) if line.endswith("\n")]
        position, system, containers = map(int, complete[-1].split())
        with Spool.open(path, retain_events=2000) as spool:
            heads = spool.heads()
            assert spool.position >= position
            assert heads[SYSTEM].seq >= system
            assert heads[CONTAINERS].seq >= containers
            rows = [row for start in range(0, spool.position, 500) for row in spool.read(start, 500)]
            rows = sorted({place: (place, event) for place, event in rows}.values(), key=lambda row: row[0])
        places = [place for place, _ in rows]
        assert places == list(range(places[0], spool.position + 1))
        for stream in (SYSTEM, CONTAINERS):
            seqs = [event.seq for _, event in rows if event.stream == stream]
            assert seqs == list(range(seqs[0], heads[stream].seq + 1))
        for place, event in rows:
            identity = f"{event.stream} {event.epoch} {event.seq} {event.id}"
            assert seen.setdefault(place, identity) == identity
    assert len(set(seen.values())) == len(seen)
    assert len(seen) > 500


_UNTIL_FULL = """
spool = Spool.open(Path(sys.argv[1]))
spool.open_stream(streams[0], 1, None, datetime.now(UTC))
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
taken = refused = 0
for n in range(0, 400, 2):
    try:
        events = spool.append([draft(n, 3000)])
    except SpoolError as error:
        refused, last = refused + 1, error
    else:
        assert not refused, "took an event after it refused one"
        taken += 1
assert type(last).__name__ == "SpoolUnwritable", last
assert spool.refused["SpoolUnwritable"] == refused
assert spool.heads()[streams[0]].seq == taken + 1
spool.acknowledge("legacy", 3)  # kept in memory, at least
assert spool.acknowledged("legacy") == 3
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
assert spool.append([draft(0)])[0].seq == taken + 2
print(taken, refused, last)
spool.close()
"""


def test_a_full_disk_refuses_before_a_seq_is_taken_and_recovers(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    process = child(_UNTIL_FULL, str(path))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    taken, refused, said = out.split(" ", 2)
    assert int(refused) > 0
    assert "cannot be written" in said
    with Spool.open(path) as spool:
        assert [event.seq for _, event in spool.read(0, 500)] == list(range(1, int(taken) + 3))


_IN_A_READ_ONLY_DIRECTORY = """
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)  # root may write anywhere
try:
    Spool.open(Path(sys.argv[1]))
except SpoolError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def public_directory() -> Iterator[Path]:
    """A directory that other users can enter, unlike pytest's own."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
        Path(name).chmod(0o755)


@pytest.mark.parametrize("existing", [False, True])
def test_a_read_only_directory_is_said_in_one_line(public_directory: Path, *, existing: bool) -> None:
    path = public_directory / "spool.db"
    if existing:
        with Spool.open(path):
            pass
        path.chmod(0o444)
        path.with_name("spool.db.lock").chmod(0o444)
    public_directory.chmod(0o555)
    process = child(_IN_A_READ_ONLY_DIRECTORY, str(path))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert out.startswith("SpoolUnwritable")
    assert "Permission denied" in out
    assert out.count("\n") == 1


_HOLD = """
spool = Spool.open(Path(sys.argv[1]))
print("open", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_told_the_pid_of_the_first(tmp_path: Path) -> None:
    process = child(_HOLD, str(tmp_path / "spool.db"), stdin=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == "open\n"
    with pytest.raises(SpoolInUse) as caught:
        Spool.open(tmp_path / "spool.db")
    process.communicate("")
    assert caught.value.pid == process.pid
    Spool.open(tmp_path / "spool.db").close()  # the lock went with its process


def test_two_readers_follow_a_writer_in_another_process(tmp_path: Path) -> None:
    path = tmp_path / "spool.db"
    process = child(_APPEND_FOR_EVER, str(path))
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with SpoolReader(path) as first, SpoolReader(path) as second:
            followed: list[int] = []
            while len(followed) < 300:
                os.set_blocking(process.stdout.fileno(), True)
                process.stdout.readline()
                after = followed[-1] if followed else 0
                rows = first.read(after, 50)
                followed += [place for place, _ in rows]
                head = second.heads()[SYSTEM]
                assert all(event.position <= head for _, event in rows if event.stream == SYSTEM), (
                    "a later view lacks what an earlier one had"
                )
                assert all(event.kind in {Kind.STREAM_OPENED, Kind.METRIC_COLLECTED} for _, event in rows)
            assert followed == list(range(followed[0], followed[0] + len(followed)))
            process.send_signal(signal.SIGKILL)
            process.communicate()
            assert first.position() == second.position()
            with Spool.open(path, retain_events=2000) as spool:
                assert first.heads() == spool.heads()
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
