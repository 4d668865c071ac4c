"""Where the control service is, and who asks it: the options that commands of it share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from crossfade.control_client import ControlClient
from crossfade.errors import UsageError
from crossfade.plan import known_addresses
from crossfade.wiring import Role, UserToken, embedded_keys

if TYPE_CHECKING:
    from collections.abc import Callable

    from crossfade.wiring import Wiring

ControlOption = Annotated[
    str | None,
    typer.Option(
        "--control",
        metavar="URL",
        help="A control service elsewhere, http://HOST:8002; its token comes by CROSSFADE_ACCESS_TOKEN. "
        "(default: that of --data-dir)",
        show_default=False,
    ),
]


def access_token(wired: Wiring, control: str | None, subject: str, role: Role) -> Callable[[], str]:
    """Return what makes the token of a user or agent: the given one, or, here, one of the installation's secret.

    Raises CrossfadeError.
    """
    given = wired.settings.access_token
    if given is not None:
        return given.get_secret_value
    if control is not None or wired.settings.hosted:
        raise UsageError(
            f"CROSSFADE_ACCESS_TOKEN is not set: it has to hold a token of role {role} "
            f"(crossfade token NAME --role {role}, where the installation is)"
        )
    return UserToken(embedded_keys(wired.data).jwt_secret, subject, role)


def control_client(wired: Wiring, control: str | None, subject: str, role: Role) -> ControlClient:
    """Return a client of the control service; raises CrossfadeError."""
    token = access_token(wired, control, subject, role)
    return ControlClient(control or known_addresses(wired.data, wired.settings).http("control"), token)
