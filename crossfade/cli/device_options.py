"""The options of ``crossfade devices`` that several of its commands have."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from crossfade.durations import parse_duration


def _seconds(text: str) -> float:
    return parse_duration(text).total_seconds()


def _every(what: str, default: str) -> Any:
    return typer.Option(
        f"--{what}-interval",
        metavar="DURATION",
        parser=_seconds,
        help=f"How often its {what} data are read. (default: {default})",
        show_default=False,
    )


NameArgument = Annotated[str, typer.Argument(help="Its name in Crossfade.")]
KeyFileOption = Annotated[
    str | None,
    typer.Option("--key-file", metavar="PATH", help="Private key to log in with.", show_default=False),
]
PassphraseOption = Annotated[
    str | None,
    typer.Option(
        metavar="WHERE", help="Where the key's passphrase is: env:NAME or file:PATH.", show_default=False
    ),
]
AgentOption = Annotated[
    bool | None,
    typer.Option("--agent/--no-agent", help="Log in with the SSH agent's keys.", show_default=False),
]
PasswordOption = Annotated[
    str | None,
    typer.Option(metavar="WHERE", help="Where its password is: env:NAME or file:PATH.", show_default=False),
]
JumpOption = Annotated[
    str | None,
    typer.Option(metavar="DEVICE", help="The device through which it is reached.", show_default=False),
]
DescriptionOption = Annotated[
    str | None, typer.Option(metavar="TEXT", help="For people.", show_default=False)
]
ContainerOption = Annotated[Any, _every("container", "30s")]
SystemOption = Annotated[Any, _every("system", "5m")]
DriveOption = Annotated[Any, _every("drive", "1h")]
MonitoringOption = Annotated[
    bool | None,
    typer.Option(
        "--enable/--disable", help="Whether it is read; a jump host need not be.", show_default=False
    ),
]
AcceptOption = Annotated[
    str | None,
    typer.Option(
        "--accept-host-key",
        metavar="SHA256:...",
        help="Accept this host key, if it is the one that is shown.",
        show_default=False,
    ),
]
AcceptNewOption = Annotated[
    bool, typer.Option("--accept-new-host-key", help="Accept whatever host key is shown the first time.")
]
