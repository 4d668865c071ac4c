"""The ways in which a flag file comes to say something else, each by the programs that people use; for tests and bench.

A way prepares what it needs beside the file, then yields the one action that changes it. The new text is older than the
file wherever the way can make it so: a restored copy keeps its time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

Action = Callable[[], None]
Way = Callable[[Path, str], Action]

OLD_NANOSECONDS = 1_000_000_000_000_000_000
"""2001: older than any file that a watcher has seen."""


def _old(path: Path, text: str) -> Path:
    made = path.with_name("wanted.yaml")
    made.write_text(text)
    os.utime(made, ns=(OLD_NANOSECONDS, OLD_NANOSECONDS))
    return made


def _run(*words: str | Path, cwd: Path | None = None) -> None:
    quiet = {
        **os.environ,
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        "GIT_AUTHOR_NAME": "test",
        "GIT_AUTHOR_EMAIL": "test@example.com",
        "GIT_COMMITTER_NAME": "test",
        "GIT_COMMITTER_EMAIL": "test@example.com",
    }
    subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=quiet,
        check=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def _vim(backupcopy: str) -> Way:
    def way(path: Path, text: str) -> Action:
        wanted = _old(path, text)
        keys = (f"set backup writebackup backupcopy={backupcopy}", f"%!cat {wanted}", "wq")
        words = [word for key in keys for word in ("-c", key)]
        return lambda: _run("vim", "-u", "NONE", "-es", *words, path)

    return way


def rename(path: Path, text: str) -> Action:
    wanted = _old(path, text)
    return lambda: os.replace(wanted, path)  # noqa: PTH105 - the system call by its name


def truncate_and_write(path: Path, text: str) -> Action:
    """In place and in two pieces: between them the file is cut short."""

    def action() -> None:
        with path.open("w") as file:
            file.write(text[: len(text) // 2])
            file.flush()
            os.fsync(file.fileno())
            file.write(text[len(text) // 2 :])

    return action


def same_size_and_times(path: Path, text: str) -> Action:
    def action() -> None:
        before = path.stat()
        with path.open("r+") as file:
            file.write(text)
            file.truncate()
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    return action


def sed(path: Path, text: str) -> Action:
    """Replace the lines that differ, as ``sed -i`` does: a new file with the name of the old one."""
    before = path.read_text().splitlines()
    after = text.splitlines()
    assert len(before) == len(after)
    script = [
        f"{at}c\\{new}" for at, (old, new) in enumerate(zip(before, after, strict=True), 1) if old != new
    ]
    return lambda: _run("sed", "-i", *(word for line in script for word in ("-e", line)), path)


def copy_preserving(path: Path, text: str) -> Action:
    wanted = _old(path, text)
    return lambda: _run("cp", "-p", wanted, path)


def move_older(path: Path, text: str) -> Action:
    wanted = _old(path, text)
    return lambda: _run("mv", wanted, path)


def rsync(*options: str) -> Way:
    def way(path: Path, text: str) -> Action:
        wanted = _old(path, text)
        return lambda: _run("rsync", "-t", *options, wanted, path)

    return way


def untar(path: Path, text: str) -> Action:
    wanted = _old(path, text)
    archive = path.with_name("wanted.tar")
    with tarfile.open(archive, "w") as file:
        file.add(wanted, path.name)
    return lambda: _run("tar", "xpf", archive, cwd=path.parent)


def git_checkout(path: Path, text: str) -> Action:
    """The wanted text is the commit before the one that is checked out."""
    now, directory = path.read_text(), path.parent
    _run("git", "init", "-q", cwd=directory)
    for each in (text, now):
        path.write_text(each)
        _run("git", "add", path.name, cwd=directory)
        _run("git", "commit", "-q", "--allow-empty", "-m", "flags", cwd=directory)
    return lambda: _run("git", "checkout", "-q", "HEAD~1", cwd=directory)


def config_map(path: Path, text: str) -> Action:
    """As the kubelet does: the file is a link into ``..data``, which is a link that is renamed over."""
    directory = path.parent
    for name, content in (("..first", path.read_text()), ("..second", text)):
        (directory / name).mkdir()
        (directory / name / path.name).write_text(content)
        os.utime(directory / name / path.name, ns=(OLD_NANOSECONDS, OLD_NANOSECONDS))
    (directory / "..data").symlink_to("..first")
    path.unlink()
    path.symlink_to(Path("..data") / path.name)

    def action() -> None:
        (directory / "..data_tmp").symlink_to("..second")
        (directory / "..data_tmp").replace(directory / "..data")

    return action


def link_elsewhere(path: Path, text: str) -> Action:
    wanted = _old(path, text)
    return lambda: _run("ln", "-sfn", wanted, path)


WAYS: Mapping[str, Way] = {
    "an editor that renames (vim)": _vim("no"),
    "an editor that writes in place (vim)": _vim("yes"),
    "rename over it": rename,
    "truncate and write": truncate_and_write,
    "same size and times": same_size_and_times,
    "sed -i": sed,
    "cp -p of an older file": copy_preserving,
    "mv of an older file": move_older,
    "rsync -t of an older file": rsync(),
    "rsync -t --inplace": rsync("--inplace"),
    "tar x of an older file": untar,
    "git checkout of an older commit": git_checkout,
    "a ConfigMap's links": config_map,
    "ln -sf to another file": link_elsewhere,
}

_PROGRAMS = {"vim": "vim", "rsync": "rsync", "git": "git", "tar": "tar", "sed": "sed"}


def lacks(way: str) -> str:
    """Return which program a way needs that this machine has not; empty when it can be gone."""
    for word, program in _PROGRAMS.items():
        if word in way and shutil.which(program) is None:
            return f"there is no {program} here"
    return ""
