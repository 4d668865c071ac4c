"""Become another program, as another user if asked, that dies when its supervisor does.

Run as a script, before the program itself: ``launch.py SUPERVISOR_PID DEATH_SIGNAL USER PROGRAM [ARGUMENT ...]``, with an
empty USER to stay the same. It imports nothing of ours, so that it starts in
a few milliseconds, and all of it at the top: the other user may not be able to read Python's library. On Linux the kernel then
sends DEATH_SIGNAL when the supervisor ends in whatever way (prctl(2), PR_SET_PDEATHSIG); other systems have no such
thing, and there a supervisor that is killed leaves its parts behind.
"""

import ctypes
import os
import pwd
import sys
import warnings  # noqa: F401 - os.execvp imports it, too late

_PR_SET_PDEATHSIG = 1
_CANNOT_RUN = 126
"""The exit status shells use for a program that cannot be run."""


def become(user: str) -> None:
    """Take a user's identity and groups for good."""
    entry = pwd.getpwnam(user)
    if entry.pw_uid != os.geteuid():
        os.initgroups(user, entry.pw_gid)
        os.setgid(entry.pw_gid)
        os.setuid(entry.pw_uid)
    os.environ.update(USER=user, LOGNAME=user, HOME=entry.pw_dir)


def _die_with(supervisor: int, signal: int) -> None:
    """Ask the kernel for a signal when the supervisor dies. After the change of user, which would clear it."""
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != supervisor:  # it died before we asked
        os._exit(0)


def main(arguments: list[str]) -> None:
    """Become the program; ends the process with status 126 and one line when that is impossible."""
    supervisor, signal, user, *program = arguments
    try:
        if user:
            become(user)
        _die_with(int(supervisor), int(signal))
        os.execvp(program[0], program)  # noqa: S606 - becoming the part's program is its whole purpose
    except (OSError, KeyError) as error:
        sys.stderr.write(f"cannot run {program[0]}: {error}\n")
        sys.exit(_CANNOT_RUN)


if __name__ == "__main__":
    main(sys.argv[1:])
