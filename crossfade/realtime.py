"""The embedded Supabase's Realtime and REST endpoint as a part, with its log lines as those of every part.

``python -m crossfade.realtime`` takes what ``python -m embedded.gateway`` does.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from crossfade import logs
from embedded import gateway

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; return the exit status."""
    logs.to_stderr(logging.INFO)
    return gateway.main(arguments)


if __name__ == "__main__":
    sys.exit(main())
