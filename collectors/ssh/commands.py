"""The registry of what devices are asked: shell text, time-out, retries, how long an answer holds, and its parser.

Shell texts are POSIX, for GNU and BusyBox alike, and bound by ``limit`` whatever may hang. A tool or file that is not there
ends with 127: the device lacks that capability, which is no error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collectors.ssh import filesystems, identity, proc, smart
from collectors.ssh.errors import Unreadable
from collectors.ssh.script import MISSING, TIMED_OUT, Section, first_line

_FILESYSTEMS_SECONDS = 5
_SMART_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Command:
    """One question to a device."""

    name: str
    shell: str
    parse: Callable[[str], Any]
    seconds: float = 5.0
    """How long it, or each of the commands in it that may hang, may take on the device."""
    cycle_seconds: float = 0.0
    """How long the cycle may take that has it, where that is longer than any cycle's."""
    retries: int = 1
    """How often it is asked again in the same cycle, when it timed out or its answer cannot be read."""
    ttl_seconds: float = 0.0
    """How long an answer holds; 0 asks every time."""
    lacks: str = ""
    """What to say when the device does not have it."""
    partial: bool = False
    """Whether output beside a failing status is worth reading: df complains of one mount and lists the others."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command brought: a value, or why there is none. ``missing``: the device cannot say it at all."""

    value: Any = None
    reason: str = ""
    missing: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is a value."""
        return not self.reason


def read(command: Command, section: Section | None) -> Answer:
    """Return the answer in a section; None is one that was cut short. Never raises."""
    if section is None:
        return Answer(reason="the answer was cut short")
    if section.status == MISSING and not section.output.strip():
        return Answer(reason=command.lacks or f"{command.name} is not there", missing=True)
    if section.status in TIMED_OUT and not command.partial:
        return Answer(reason=f"no answer within {command.seconds:g} s on the device")
    if section.status and not (command.partial and section.output.strip()):
        said = first_line((section.complaint, section.output))
        return Answer(reason=said or f"exit status {section.status}")
    try:
        return Answer(command.parse(section.output))
    except Unreadable as error:
        return Answer(
            reason=f"{error}; it said: {first_line((section.output, section.complaint), 80) or 'nothing'}"
        )


def _file(path: str) -> str:
    return f"[ -r {path} ] || exit {MISSING}\ncat {path}"


_DF = """\
set --
while read -r dev mnt fs rest; do
  case $fs in
    nfs|nfs4|cifs|smb3|smbfs|afs|ceph|9p|glusterfs|fuse.sshfs|fuse.glusterfs|fuse.rclone|autofs) continue ;;
    proc|sysfs|cgroup|cgroup2|devpts|securityfs|debugfs|tracefs|pstore|bpf|mqueue|nsfs|squashfs) continue ;;
  esac
  case $mnt in
    /proc/*|/sys/*|/dev/*|/var/lib/docker/*|/var/lib/containers/storage/*) continue ;;
    *\\\\*) mnt=$(printf '%b' "$(printf '%s' "$mnt" | sed 's/\\\\\\([0-7]\\)/\\\\0\\1/g')") ;;
  esac
  set -- "$@" "$mnt"
done </proc/mounts
[ $# -gt 0 ] || exit 127
"""

_PRESSURE = f"""\
[ -r /proc/pressure/cpu ] || exit {MISSING}
for name in cpu memory io; do
  [ -r /proc/pressure/$name ] && while read -r line; do echo "$name $line"; done </proc/pressure/$name
done
exit 0"""

_IDENTITY = """\
echo "hostname=$(uname -n)"
echo "kernel=$(uname -sr)"
echo "machine=$(uname -m)"
[ -r /etc/machine-id ] && echo "machine_id=$(cat /etc/machine-id)"
for file in /etc/os-release /usr/lib/os-release; do [ -r $file ] && cat $file && break; done
exit 0"""

# The type of the scan is passed on, but for its guesses. A drive's answer may come with any status, and an NVMe controller
# that cannot be asked is asked by its first namespace.
_SMART = f"""\
have smartctl || exit {MISSING}
as=
if [ "$(id -u)" != 0 ] && have sudo && sudo -n smartctl --version >/dev/null; then as='sudo -n'; fi
limit {_SMART_SECONDS} $as smartctl --scan | while read -r dev flag kind rest; do
  case $dev in /dev/*) ;; *) continue ;; esac
  case $flag:$kind in -d:scsi|-d:ata|-d:) set -- ;; -d:*) set -- -d "$kind" ;; *) set -- ;; esac
  out=$(limit {_SMART_SECONDS} $as smartctl --json=c -n standby -a "$@" "$dev" </dev/null); was=$?
  case $dev:$was in
    /dev/nvme[0-9]:[12]|/dev/nvme[0-9][0-9]:[12])
      other=$(limit {_SMART_SECONDS} $as smartctl --json=c -n standby -a "$@" "${{dev}}n1" </dev/null) && out=$other ;;
  esac
  printf '%s\\n' "$out"
done
exit 0"""

UPTIME = Command("uptime", _file("/proc/uptime"), proc.parse_uptime, lacks="/proc/uptime is not there")
CPU = Command(
    "cpu",
    f"[ -r /proc/stat ] || exit {MISSING}\ngrep '^cpu' /proc/stat",
    proc.parse_cpu,
    lacks="/proc/stat is not there",
)
LOAD = Command("load", _file("/proc/loadavg"), proc.parse_load, lacks="/proc/loadavg is not there")
MEMORY = Command("memory", _file("/proc/meminfo"), proc.parse_memory, lacks="/proc/meminfo is not there")
PRESSURE = Command(
    "pressure", _PRESSURE, proc.parse_pressure, lacks="its kernel tells no pressure (psi=1, since 4.20)"
)
MOUNTS = Command("mounts", _file("/proc/mounts"), filesystems.parse_mounts, lacks="/proc/mounts is not there")
DISKS = Command(
    "disks",
    f'{_DF}limit {_FILESYSTEMS_SECONDS} df -P -k "$@"',
    filesystems.parse_df,
    seconds=_FILESYSTEMS_SECONDS,
    lacks="df is not there",
    partial=True,
)
INODES = Command(
    "inodes",
    f'{_DF}limit {_FILESYSTEMS_SECONDS} df -P -i "$@"',
    filesystems.parse_df,
    seconds=_FILESYSTEMS_SECONDS,
    retries=0,  # a BusyBox that does not know -i never will
    lacks="df is not there",
    partial=True,
)
DISK_IO = Command(
    "disk-io", _file("/proc/diskstats"), proc.parse_diskstats, lacks="/proc/diskstats is not there"
)
NETWORKS = Command(
    "networks", _file("/proc/net/dev"), proc.parse_networks, lacks="/proc/net/dev is not there"
)
IDENTITY = Command("identity", _IDENTITY, identity.parse_identity, ttl_seconds=3600)
SMART = Command(
    "smart",
    _SMART,
    smart.parse_smart,
    seconds=_SMART_SECONDS,
    cycle_seconds=120,
    retries=0,
    ttl_seconds=300,  # whoever watches, drives are not asked more often
    lacks="smartctl is not installed there (package smartmontools)",
    partial=True,
)

SYSTEM = (UPTIME, CPU, LOAD, MEMORY, PRESSURE, MOUNTS, DISKS, INODES, DISK_IO, NETWORKS, IDENTITY)
DRIVES = (IDENTITY, SMART)


def shells(commands: Iterable[Command]) -> Mapping[str, str]:
    """Return the shell text of each command by its name."""
    return {command.name: command.shell for command in commands}
