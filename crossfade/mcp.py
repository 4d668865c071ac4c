"""The MCP server as a part: ``python -m crossfade.mcp``."""

from __future__ import annotations

import sys
from dataclasses import fields
from typing import TYPE_CHECKING

from crossfade import hosting
from services.mcp_server import ModelContext, create_app
from services.provided import Shared

if TYPE_CHECKING:
    from collections.abc import Sequence

    from crossfade.paths import DataDir
    from crossfade.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the part until it is told to stop; return 0, or 1 with one line about what is wrong."""
    parser = hosting.parser("mcp", 9102, __doc__)
    parser.add_argument(
        "--control-url", metavar="URL", help="let operators have something done by this control service"
    )
    given = parser.parse_args(arguments)

    def make(settings: Settings, data: DataDir) -> hosting.Hosted:
        common = hosting.shared("mcp", settings, data)
        shared = {each.name: getattr(common, each.name) for each in fields(Shared)}
        provided = ModelContext(**shared, control_url=given.control_url)
        return create_app(
            provided, cors_origins=settings.origins, rate=hosting.rate(settings.rate_limit_control)
        )

    return hosting.run("mcp", given, make)


if __name__ == "__main__":
    sys.exit(main())
