"""Two owners over real spool files, killed at any step; both forwarders with lost acknowledgements; leases that pass on.

Whatever happens: seqs have neither holes nor doubles, nothing is acknowledged that was not sent, and a reader of either
path gets every event of every epoch once and in order, or is told of a gap where it is missing.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from adapters.postgres_writer import PostgresWriter
from adapters.spool import PATHS, Spool
from adapters.spool_file import StreamNotOpen
from legacy_ws.ring import Ring, Taken
from monitoring.events import Draft, Event, Position, StreamId
from monitoring.sequencer import Sequencer
from monitoring.service import Gap
from monitoring.topics import parse_topics
from tests.integration.spool.lease_model import LeaseModel

STREAMS = (StreamId("web-1/system"), StreamId("web-1/containers"))
AT = datetime(2026, 11, 21, tzinfo=UTC)
TTL = 30
ALL = parse_topics(["global"])


class Owner:
    """A spool file, the process that has it open, and how far its forwarders are."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lives = 0
        self.promised: dict[StreamId, Position] = {}
        self._start(folder / "spool-0.db")

    def _start(self, path: Path) -> None:
        self.path = path
        self.spool = Spool.open(path, retain_events=5)
        self.writer = PostgresWriter(self.spool, "postgresql://u:p@127.0.0.1:1/d", STREAMS, ttl_seconds=TTL)
        self.sent = {path: self.spool.acknowledged(path) for path in PATHS}

    def kill(self) -> None:
        """Go on from what is on the disk at this moment, as after a kill -9: nothing is closed, nothing flushed."""
        self.lives += 1
        after = self.folder / f"spool-{self.lives}.db"
        for suffix in ("", "-wal"):
            left = self.path.with_name(self.path.name + suffix)
            if left.exists():
                shutil.copy(left, after.with_name(after.name + suffix))
        self.spool.close()
        self._start(after)


class Reader:
    """A client of one path."""

    def __init__(self) -> None:
        self.sequencer = Sequencer()
        self.told: list[Event | Gap] = []
        self.connected = True


class Spools(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.database = LeaseModel()
        self.ring = Ring()
        self.readers = {path: Reader() for path in PATHS}
        self.written: dict[StreamId, dict[Position, Event]] = {stream: {} for stream in STREAMS}
        self.writers: dict[tuple[StreamId, int], Owner] = {}

    @initialize()
    def begin(self) -> None:
        self.owners = []
        for name in ("a", "b"):
            (self.folder / name).mkdir()
            self.owners.append(Owner(self.folder / name))
        self.lease(0)

    def _run(self, coroutine: Any) -> None:
        asyncio.run(coroutine)

    @property
    def connection(self) -> Any:
        return cast("Any", self.database)

    # What owners do

    @rule(owner=st.integers(0, 1))
    def lease(self, owner: int) -> None:
        this = self.owners[owner]
        before = this.spool.heads()
        self._run(this.writer._lease(self.connection, STREAMS))
        for stream, head in this.spool.heads().items():
            if head != before.get(stream):
                self._wrote(this, [event for _, event in this.spool.read(this.spool.position - 2, 2)])

    @rule(owner=st.integers(0, 1), stream=st.sampled_from(STREAMS), count=st.integers(1, 3))
    def append(self, owner: int, stream: StreamId, count: int) -> None:
        this = self.owners[owner]
        try:
            events = this.spool.append([Draft(stream, "seen", AT, {"n": n}) for n in range(count)])
        except StreamNotOpen:
            assert not this.spool.is_open(stream)
        else:
            self._wrote(this, events)

    def _wrote(self, owner: Owner, events: list[Event]) -> None:
        for event in events:
            known = self.written[event.stream]
            if event.position in known:
                assert known[event.position] == event
                continue
            assert event.seq == 1 or Position(event.epoch, event.seq - 1) in known, "a hole in the seqs"
            assert self.writers.setdefault((event.stream, event.epoch), owner) is owner, (
                "two owners of an epoch"
            )
            known[event.position] = event
            owner.promised[event.stream] = event.position

    @rule(owner=st.integers(0, 1), count=st.integers(1, 5), acknowledged=st.booleans())
    def forward_to_the_database(self, owner: int, count: int, *, acknowledged: bool) -> None:
        this = self.owners[owner]
        rows = this.spool.read(this.writer._position, count)
        if not rows:
            return
        before = this.spool.heads()
        self._run(this.writer._append(self.connection, [event for _, event in rows]))
        if this.spool.heads() != before:  # asked for its leases meanwhile, and got new ones
            self._wrote(this, [event for _, event in this.spool.read(this.spool.position - 2, 2)])
        self.sent(this, "supabase", rows[-1][0])
        if acknowledged:
            this.writer._position = rows[-1][0]
            this.spool.acknowledge("supabase", rows[-1][0])
        arrived, self.database.committed = self.database.committed, []
        self._deliver("supabase", arrived)

    @rule(owner=st.integers(0, 1), count=st.integers(1, 5), acknowledged=st.booleans())
    def forward_to_the_legacy_server(self, owner: int, count: int, *, acknowledged: bool) -> None:
        this = self.owners[owner]
        arrived: list[Event] = []
        rows = this.spool.read(this.spool.acknowledged("legacy"), count)
        for _, event in rows:
            if self.ring.judge(event) is Taken.NEW:
                self.ring.take(event, b"")
                arrived.append(event)
        if rows:
            self.sent(this, "legacy", rows[-1][0])
            if acknowledged:
                this.spool.acknowledge("legacy", rows[-1][0])
        self._deliver("legacy", arrived)

    def sent(self, owner: Owner, path: str, position: int) -> None:
        owner.sent[path] = max(owner.sent[path], position)

    @rule(owner=st.integers(0, 1))
    def kill(self, owner: int) -> None:
        self.owners[owner].kill()

    @rule(owner=st.integers(0, 1))
    def stop_in_order(self, owner: int) -> None:
        this = self.owners[owner]
        self._run(this.writer._leases.release(self.connection))
        this.kill()

    @rule(seconds=st.sampled_from([5, TTL + 1]))
    def time_passes(self, seconds: int) -> None:
        self.database.now += seconds

    @rule(owner=st.integers(0, 1), count=st.integers(0, 3))
    def take_over(self, owner: int, count: int) -> None:
        """The other's lease has expired; some of what this owner writes arrives."""
        self.time_passes(TTL + 1)
        self.lease(owner)
        self.append(owner, STREAMS[0], 2)
        self.forward_to_the_database(owner, count + 1, acknowledged=True)
        self.forward_to_the_legacy_server(owner, count + 1, acknowledged=count > 1)

    @rule(owner=st.integers(0, 1), early=st.booleans())
    def drain_and_stop(self, owner: int, *, early: bool) -> None:
        """Everything arrives and the leases are let go; ``early``: it is back with events before it asks for them again."""
        this = self.owners[owner]
        for _ in range(20):
            self.forward_to_the_database(owner, 8, acknowledged=True)
            self.forward_to_the_legacy_server(owner, 8, acknowledged=True)
        assert all(this.spool.drained(stream) for stream in STREAMS)
        self.stop_in_order(owner)
        if early:
            self.take_over(1 - owner, 3)
            self.append(owner, STREAMS[0], 1)

    # What readers do

    @rule(path=st.sampled_from(PATHS))
    def disconnect(self, path: str) -> None:
        self.readers[path].connected = False

    @rule(path=st.sampled_from(PATHS))
    def connect(self, path: str) -> None:
        reader = self.readers[path]
        reader.connected = True
        self._backfill(path)

    def _deliver(self, path: str, events: list[Event]) -> None:
        reader = self.readers[path]
        if reader.connected:
            for event in events:
                reader.told += reader.sequencer.offer(event)
            if reader.sequencer.holes:
                self._backfill(path)

    def _backfill(self, path: str) -> None:
        reader = self.readers[path]
        if path == "legacy":
            replay = self.ring.replay(ALL, reader.sequencer.cursor)
            events, heads = [kept.event for kept in replay.events], dict(replay.heads)
        else:
            events = [event for rows in self.database.rows.values() for event in rows]
            heads = self.database.heads
        for stream, head in heads.items():
            after = reader.sequencer.position(stream)
            missed = sorted(
                (event for event in events if event.stream == stream and event.position > after),
                key=lambda event: event.position,
            )
            reader.told += reader.sequencer.fill(stream, missed, upto=head)

    # What always holds

    @invariant()
    def a_killed_owner_has_all_that_it_promised(self) -> None:
        for owner in getattr(self, "owners", []):
            assert dict(owner.spool.heads()) == owner.promised

    @invariant()
    def nothing_is_acknowledged_that_was_not_sent(self) -> None:
        for owner in getattr(self, "owners", []):
            for path in PATHS:
                assert owner.spool.acknowledged(path) <= owner.sent[path]

    @invariant()
    def the_database_has_epochs_without_holes_that_follow_each_other(self) -> None:
        for stream, rows in self.database.rows.items():
            assert sorted(rows, key=lambda event: event.position) == rows, (
                "something came behind readers' backs"
            )
            for event in rows:
                assert event == self.written[stream][event.position]
                assert event.seq == 1 or any(row.position == (event.epoch, event.seq - 1) for row in rows)

    @invariant()
    def readers_have_each_event_once_in_order_or_were_told(self) -> None:
        for path, reader in self.readers.items():
            for stream in STREAMS:
                told = [item for item in reader.told if item.stream == stream]
                places = [item.position for item in told if isinstance(item, Event)]
                assert places == sorted(set(places)), f"{path}: twice, or out of order"
                first, last = (
                    places[:1],
                    reader.sequencer.position(stream),
                )  # a new stream begins where it begins
                missing = [
                    position
                    for position in self.written[stream]
                    if first and first[0] < position <= last and position not in places
                ]
                for position in missing:
                    assert covered(position, told), (
                        f"{path}: {stream} {position} is missing and nobody was told"
                    )

    def teardown(self) -> None:
        """Everybody comes back, and everything that still can arrive does; nobody is stuck, nothing is left untold."""
        try:
            for owner in getattr(self, "owners", []):
                self.database.now += TTL + 1
                number = self.owners.index(owner)
                self.lease(number)
                for _ in range(200):
                    if not any(owner.spool.state().waiting.values()):
                        break
                    self.forward_to_the_database(number, 5, acknowledged=True)
                    self.forward_to_the_legacy_server(number, 5, acknowledged=True)
                assert not any(owner.spool.state().waiting.values())
            for path in PATHS:
                self.connect(path)
            self.readers_have_each_event_once_in_order_or_were_told()
            for path, reader in self.readers.items():
                for stream, positions in self.written.items():
                    if positions:
                        assert reader.sequencer.position(stream) == max(positions), path
        finally:
            for owner in getattr(self, "owners", []):
                owner.spool.close()
            shutil.rmtree(self.folder)


def covered(position: Position, told: list[Event | Gap]) -> bool:
    """Tell whether a gap says that a position is missing; one without an end reaches to the next event."""
    for number, item in enumerate(told):
        if not isinstance(item, Gap):
            continue
        first = Position(item.epoch, item.from_seq)
        if item.to_seq is not None:
            if first <= position <= (item.epoch, item.to_seq):
                return True
            continue
        following = next((later for later in told[number:] if isinstance(later, Event)), None)
        if first <= position and (following is None or position < following.position):
            return True
    return False


TestSpools = Spools.TestCase
TestSpools.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
