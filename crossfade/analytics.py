"""The analytics service as a part: ``python -m crossfade.analytics``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from crossfade import hosting
from services.analytics import create_app

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.paths import DataDir
    from crossfade.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part until it is told to stop; return 0, or 1 with one line about what is wrong."""
    given = hosting.parser("analytics", 8004, __doc__).parse_args(arguments)

    def make(settings: Settings, data: DataDir) -> hosting.Hosted:
        return create_app(
            hosting.shared("analytics", settings, data),
            cors_origins=settings.origins,
            rate=hosting.rate(settings.rate_limit),
        ), ()

    return hosting.run("analytics", given, make)


if __name__ == "__main__":
    sys.exit(main())
