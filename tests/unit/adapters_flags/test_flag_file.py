import asyncio
import logging
import os
import threading
from pathlib import Path

import pytest

from adapters import flag_file
from adapters.flag_file import FlagFile, FlagFileConflict, FlagFileUnusable
from monitoring.errors import InvalidFlags
from monitoring.flags.editing import edit
from monitoring.flags.model import Flags

SHIPPED = (Path(__file__).parents[3] / "flags.yaml").read_text()


def with_percent(text: str) -> str:
    return edit(SHIPPED, "live.percent", text)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "flags.yaml"
    path.write_text(SHIPPED)
    return path


@pytest.fixture
async def watched(path: Path):
    flags = FlagFile(path, poll_seconds=0.01)
    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        task = group.create_task(flags.run())
        await flags.changes(0)
        yield flags
        task.cancel()


async def until(condition) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.005)


def test_before_the_first_look_everybody_is_on_the_legacy_server(path):
    flags = FlagFile(path)
    assert (flags.current(), flags.problem(), flags.revision) == (Flags(), None, 0)


def test_reads_at_once_without_a_loop(path):
    path.write_text(with_percent("25"))
    flags = FlagFile(path)
    assert flags.refresh().weight == 25_000
    assert flags.revision == 1


def test_a_missing_file_means_legacy_and_is_said(tmp_path, caplog):
    flags = FlagFile(tmp_path / "flags.yaml")
    assert flags.refresh() == Flags()
    assert "is not there; everybody is on the legacy server" in (flags.problem() or "")
    flags.refresh()
    assert len(caplog.records) == 1


async def test_an_edit_is_seen(watched, path):
    path.write_text(with_percent("10"))
    assert await watched.changes(1) == 2
    assert watched.current().weight == 10_000
    flag_file.write(path, with_percent("20"), expected=with_percent("10"))
    assert await watched.changes(2) == 3
    assert watched.current().weight == 20_000


async def test_an_edit_of_equal_size_and_time_is_seen(watched, path):
    for number in range(10, 20):
        before = path.stat()
        path.write_text(with_percent(str(number)))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        await until(lambda weight=number * 1000: watched.current().weight == weight)


async def test_a_change_of_comments_is_no_revision(watched, path):
    path.write_text("# hello\n" + SHIPPED)
    path.write_text("# more\n" + with_percent("1"))
    assert await watched.changes(1) == 2


async def test_a_broken_file_keeps_the_last_good_one_and_is_said_once(watched, path, caplog):
    caplog.set_level(logging.WARNING)
    path.write_text(with_percent("30"))
    await watched.changes(1)
    path.write_text(with_percent("30").replace("kill: false", "kill: flase"))
    await until(watched.problem)
    assert "true or false" in (watched.problem() or "")
    assert "line " in (watched.problem() or "")
    assert "last good flags stay in force" in (watched.problem() or "")
    assert watched.current().weight == 30_000
    os.utime(path)
    await asyncio.sleep(0.1)
    assert len(caplog.records) == 1
    path.unlink()
    await until(lambda: "is not there" in (watched.problem() or ""))
    assert watched.current().weight == 30_000
    path.write_text(with_percent("30"))
    await until(lambda: watched.problem() is None)
    assert watched.revision == 2
    assert len(caplog.records) == 2


def test_says_what_it_cannot_read(tmp_path):
    directory = FlagFile(tmp_path)
    directory.refresh()
    assert "cannot be read" in (directory.problem() or "")
    (tmp_path / "latin").write_bytes(SHIPPED.encode() + b"\n# gr\xfc\xdfe\n")
    latin = FlagFile(tmp_path / "latin")
    latin.refresh()
    assert f"line {SHIPPED.count(chr(10)) + 2}: not UTF-8 text" in (latin.problem() or "")


def test_a_settled_file_is_not_read_again(path):
    os.utime(path, ns=(0, 0))
    flags = FlagFile(path)
    flags.refresh()
    settled = flags._last
    assert settled is not None
    flags._last = flag_file._Look(settled.signature, settled.digest, settled.flags, None, settled=True)
    assert flags._look() is None
    assert flags.refresh() == Flags()
    assert flags.revision == 1


def test_writes_atomically_and_keeps_the_mode(path):
    path.chmod(0o640)
    inode = path.stat().st_ino
    flag_file.write(path, with_percent("5"), expected=flag_file.read(path))
    assert path.read_text() == with_percent("5")
    assert path.stat().st_mode & 0o777 == 0o640
    assert path.stat().st_ino != inode
    assert [found.name for found in path.parent.iterdir()] == ["flags.yaml"]


def test_writes_a_new_file(tmp_path):
    path = tmp_path / "new.yaml"
    flag_file.write(path, SHIPPED, expected=None)
    assert path.read_text() == SHIPPED
    assert path.stat().st_mode & 0o777 == 0o644


def test_writes_through_a_symbolic_link(path, tmp_path):
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    flag_file.write(link, with_percent("5"), expected=SHIPPED)
    assert link.is_symlink()
    assert path.read_text() == with_percent("5")


@pytest.mark.parametrize("expected", [None, SHIPPED + "\n"])
def test_does_not_write_over_somebody_elses_change(path, expected):
    with pytest.raises(FlagFileConflict, match="changed by somebody else"):
        flag_file.write(path, with_percent("5"), expected=expected)
    assert path.read_text() == SHIPPED


def test_never_writes_what_would_be_refused(path):
    with pytest.raises(InvalidFlags):
        flag_file.write(path, SHIPPED[:-5], expected=SHIPPED)
    assert path.read_text() == SHIPPED


def test_says_where_it_cannot_write(tmp_path):
    with pytest.raises(FlagFileUnusable, match="cannot be written") as refused:
        flag_file.write(tmp_path / "no" / "flags.yaml", SHIPPED, expected=None)
    assert refused.value.path == tmp_path / "no" / "flags.yaml"
    with pytest.raises(FlagFileUnusable, match="is not there"):
        flag_file.read(tmp_path / "flags.yaml")


def test_leaves_nothing_behind_when_it_fails(path, monkeypatch):
    def broken(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", broken)
    with pytest.raises(FlagFileUnusable, match="No space left"):
        flag_file.write(path, with_percent("5"), expected=SHIPPED)
    assert [found.name for found in path.parent.iterdir()] == ["flags.yaml"]


def test_writers_wait_for_each_other_and_lose_nothing(path):
    def add(number: int) -> None:
        while True:
            text = flag_file.read(path)
            names = next(line for line in text.splitlines() if line.startswith("  allow: ["))[10:-1]
            wanted = edit(text, "live.allow", ",".join([*filter(None, names.split(", ")), f"c{number}"]))
            try:
                flag_file.write(path, wanted, expected=text)
            except FlagFileConflict:
                continue
            return

    threads = [threading.Thread(target=add, args=(number,)) for number in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    flags = FlagFile(path)
    assert flags.refresh().allow == {f"c{number}" for number in range(5)}


class TestKeptFlags:
    """The last good text outlives the program that accepted it."""

    @pytest.fixture
    def kept(self, tmp_path):
        (tmp_path / "run").mkdir()
        return tmp_path / "run" / "flags.good.yaml"

    def test_a_program_that_starts_with_a_broken_file_has_the_last_good_flags(self, path, kept):
        path.write_text(with_percent("100"))
        assert FlagFile(path, kept=kept).refresh().weight == 100_000
        path.write_text(with_percent("0").replace("kill: false", "kil: false"))
        started = FlagFile(path, kept=kept)
        assert started.refresh().weight == 100_000
        assert started.has_good
        assert started.revision == 1
        problem = started.problem() or ""
        assert "line " in problem
        assert "the last good flags stay in force" in problem

    @pytest.mark.parametrize("lose", [Path.unlink, lambda path: path.write_bytes(b"\xff")])
    def test_so_does_one_that_starts_with_no_file_at_all(self, path, kept, lose):
        path.write_text(with_percent("70"))
        FlagFile(path, kept=kept).refresh()
        lose(path)
        assert FlagFile(path, kept=kept).refresh().weight == 70_000

    def test_the_newest_good_text_is_kept_and_no_broken_one(self, path, kept):
        flags = FlagFile(path, kept=kept)
        for percent in ("10", "20"):
            path.write_text(with_percent(percent))
            flags.refresh()
        path.write_text("percent: [")
        flags.refresh()
        assert kept.read_text() == with_percent("20")
        assert [found.name for found in kept.parent.iterdir()] == [kept.name]

    def test_the_corrected_file_takes_over(self, path, kept):
        kept.write_text(with_percent("70"))
        path.write_text("live: what\n")
        flags = FlagFile(path, kept=kept)
        flags.refresh()
        path.write_text(with_percent("30"))
        assert flags.refresh().weight == 30_000
        assert (flags.problem(), flags.revision) == (None, 2)

    def test_without_any_good_text_it_says_that_everybody_is_on_the_legacy_server(self, path, kept, caplog):
        path.write_text("live: what\n")
        flags = FlagFile(path, kept=kept)
        assert flags.refresh() == Flags()
        assert not flags.has_good
        assert "everybody is on the legacy server" in (flags.problem() or "")
        kept.write_text("broken too: [")
        again = FlagFile(path, kept=kept)
        again.refresh()
        assert not again.has_good
        assert "the last good flags cannot be read" in caplog.text

    def test_a_place_that_cannot_be_written_changes_nothing_else(self, path, tmp_path):
        flags = FlagFile(path, kept=tmp_path / "nowhere" / "flags.yaml")
        assert flags.refresh() == Flags()
        assert (flags.problem(), flags.revision) == (None, 1)


def test_switches_of_the_environment_win_over_every_file(path):
    flags = FlagFile(path, environment={"websocket_enabled": False, "websocket_session_events": True})
    assert flags.current().switched_off == {"websocket_enabled"}
    path.write_text(edit(edit(SHIPPED, "websocket_session_events", "false"), "kill", "true"))
    assert flags.refresh().switched_off == {"websocket_enabled"}
    assert flags.current().kill
    path.write_text(edit(SHIPPED, "websocket_enabled", "true") + "# broken")
    assert flags.refresh().switched_off == {"websocket_enabled"}
    assert flags.current().from_environment == {"websocket_enabled", "websocket_session_events"}
