"""What pushing costs the application, and how much one query service takes.

    python bench/push.py --data-dir D       # on a running `crossfade up`

A call is measured while the worker delivers, as an application sees it; the rate is from the first call until `flush`
says that everything is kept, by the query service and by a spool of the process's own.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from crossfade import push

CALLS = 50_000


def measure(what: str, app: push.Application) -> None:
    took: list[float] = []
    again = 0
    began = time.perf_counter()
    for number in range(CALLS):
        while True:
            called = time.perf_counter()
            fitted = app.connection(
                "redis", function_name="get", data_size_bytes=number, response_time_ms=1.5
            )
            took.append(time.perf_counter() - called)
            if fitted:
                break
            again += 1
            time.sleep(0.01)  # an application would go on; here every event is to be kept
    app.flush(120)
    seconds = time.perf_counter() - began
    took.sort()
    figures = ", ".join(f"p{share} {took[int(len(took) * share / 100)] * 1e6:.0f} us" for share in (50, 99))
    print(f"{what}: {CALLS / seconds:,.0f} events/s kept; a call {figures}, at most {took[-1] * 1e3:.1f} ms")
    assert app.status().kept == CALLS, app.status()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    data = parser.parse_args().data_dir
    name = f"bench-{time.time_ns()}"
    with tempfile.TemporaryDirectory() as directory:
        makers: dict[str, Callable[[], push.Application]] = {
            "query service": lambda: push.application(name, data),
            "spool": lambda: push.application(f"{name}-spool", data, spool=Path(directory) / "bench.db"),
        }
        for what, make in makers.items():
            with make() as app:
                measure(what, app)


if __name__ == "__main__":
    main()
