"""The gateway with every message in a write of its own: ``python bench/gateway_one_a_write.py`` with its own options.

What is sent within a tick goes together, so the cost of a single write cannot be seen under load. Here a message for
many is written to each of them at once, by the same code, before the next one is looked at.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import repeat

from embedded import gateway, realtime_outbox
from embedded.realtime_outbox import Flusher, Outbox


def _send(self: Flusher, outboxes: Sequence[Outbox], frames: bytes) -> None:
    self.flush()
    realtime_outbox._write_each(zip(outboxes, repeat(frames), strict=False))  # noqa: SLF001 - this is what is measured


if __name__ == "__main__":
    Flusher.send = _send  # type: ignore[method-assign]
    sys.exit(gateway.main())
