"""What a process takes of its machine."""

from __future__ import annotations

from typing import Any

import psutil


def process_figures() -> dict[str, Any]:
    """Return memory, CPU time and open files of this process."""
    process = psutil.Process()
    times = process.cpu_times()
    return {
        "pid": process.pid,
        "resident_bytes": process.memory_info().rss,
        "cpu_seconds": round(times.user + times.system, 3),
        "open_files": process.num_fds(),
        "threads": process.num_threads(),
    }
