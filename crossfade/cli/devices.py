"""``crossfade devices``: the registry of machines that are read over SSH."""

from __future__ import annotations

import asyncio
import re
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from adapters.device_registry import DeviceRegistry, UnknownDevice
from collectors.ssh.connection import host_key
from collectors.ssh.errors import CredentialsMissing, HostKey
from crossfade.cli.device_options import (
    AcceptNewOption,
    AcceptOption,
    AgentOption,
    ContainerOption,
    DescriptionOption,
    DriveOption,
    JumpOption,
    KeyFileOption,
    MonitoringOption,
    NameArgument,
    PassphraseOption,
    PasswordOption,
    SystemOption,
)
from crossfade.cli.device_probe import show
from crossfade.cli.options import DataDirOption, Format, FormatOption, wiring
from crossfade.cli.output import print_json
from crossfade.devices import Probe, look, with_host_key
from crossfade.durations import format_seconds
from crossfade.errors import CrossfadeError, UsageError
from monitoring.devices import FIELDS, Device, check_jumps, described, make
from monitoring.devices_file import load_devices
from monitoring.errors import InvalidDeviceFile
from monitoring.events import format_time

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from adapters.device_registry import Listed

app = typer.Typer(help="Machines that are read over SSH: list, add, change, try.", no_args_is_help=True)

_ADDRESS = re.compile(r"(?:(?P<user>[^@\s]+)@)?(?P<host>\[[^\]\s]+\]|[^:\s\[\]]+)(?::(?P<port>\d+))?\Z")


@app.command("list")
def list_(data_dir: DataDirOption = None, format_: FormatOption = Format.TEXT) -> None:
    """Show every device and how it is."""
    listed = asyncio.run(_registry(data_dir).listed())
    if format_ is Format.JSON:
        print_json([_listed(each) for each in listed])
        return
    if not listed:
        typer.echo(
            "there are no devices yet; add one with crossfade devices add NAME USER@HOST --key-file PATH"
        )
        return
    now = datetime.now(UTC)
    table = Table("device", "status", "last read", "address", "through", "host key", box=None)
    for each in listed:
        device = each.device
        table.add_row(
            device.name,
            (each.status or "not read yet") if device.monitoring_enabled else "off",
            f"{format_seconds((now - each.sampled_at).total_seconds())} ago" if each.sampled_at else "",
            device.where,
            device.jump or "",
            "stored" if device.host_key else "none yet",
        )
    Console(soft_wrap=True).print(table)


def _listed(each: Listed) -> dict[str, Any]:
    return {
        **described(each.device),
        "host_key": _fingerprint(each.device),
        "status": each.status,
        "sampled_at": format_time(each.sampled_at) if each.sampled_at else None,
        "created_at": format_time(each.created_at),
    }


def _fingerprint(device: Device) -> str | None:
    if device.host_key is None:
        return None
    try:
        return host_key(device.host_key).fingerprint
    except CredentialsMissing:
        return "unreadable"


@app.command()
def add(
    name: NameArgument,
    address: Annotated[str, typer.Argument(metavar="USER@HOST[:PORT]", help="Where it is.")],
    key_file: KeyFileOption = None,
    passphrase_from: PassphraseOption = None,
    agent: AgentOption = None,
    password_from: PasswordOption = None,
    jump: JumpOption = None,
    description: DescriptionOption = None,
    container_interval: ContainerOption = None,
    system_interval: SystemOption = None,
    drive_interval: DriveOption = None,
    monitoring: MonitoringOption = None,
    accept_host_key: AcceptOption = None,
    accept_new_host_key: AcceptNewOption = False,
    no_connect: Annotated[
        bool,
        typer.Option(
            "--no-connect", help="Do not connect now: its host key is stored when it is read first."
        ),
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Add a device: show its host key, and once that is accepted, log in and read it."""
    device = make(
        {
            "name": name,
            **_address(address, user_needed=True),
            "key_file": key_file,
            "passphrase_from": passphrase_from,
            "agent": agent,
            "password_from": password_from,
            "jump": jump,
            "description": description,
            "container_interval": container_interval,
            "system_interval": system_interval,
            "drive_interval": drive_interval,
            "monitoring_enabled": monitoring,
        }
    )
    registry = _registry(data_dir)

    async def run() -> Probe | None:
        devices = await registry.devices()
        check_jumps({**devices, name: device})
        if name in devices or no_connect:
            await registry.add(device)
            return None
        known = await with_host_key(device, devices, _accept(accept_host_key, new=accept_new_host_key))
        probe = await look(known, devices)
        if probe.problem is not None:
            raise CrossfadeError(
                f"{name}: {probe.problem}; it was not added (--no-connect adds it all the same)"
            )
        await registry.add(known)
        return probe

    probe = asyncio.run(run())
    typer.echo(f"{name} is added" + (" and will be read" if device.monitoring_enabled else ""))
    if probe is not None:
        show(probe)


@app.command()
def edit(
    name: NameArgument,
    address: Annotated[
        str | None,
        typer.Option(metavar="[USER@]HOST[:PORT]", help="Where it is.", show_default=False),
    ] = None,
    key_file: KeyFileOption = None,
    passphrase_from: PassphraseOption = None,
    agent: AgentOption = None,
    password_from: PasswordOption = None,
    jump: JumpOption = None,
    description: DescriptionOption = None,
    container_interval: ContainerOption = None,
    system_interval: SystemOption = None,
    drive_interval: DriveOption = None,
    monitoring: MonitoringOption = None,
    unset: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD", help="Give a field up, for example jump; repeat for more.", show_default=False
        ),
    ] = None,
    accept_host_key: AcceptOption = None,
    forget_host_key: Annotated[
        bool,
        typer.Option("--forget-host-key", help="Forget its host key: the next one shown is a first one."),
    ] = False,
    data_dir: DataDirOption = None,
) -> None:
    """Change a device; the collector follows within seconds. Another address forgets the host key."""
    given = {
        **(_address(address, user_needed=False) if address else {}),
        "key_file": key_file,
        "passphrase_from": passphrase_from,
        "agent": agent,
        "password_from": password_from,
        "jump": jump,
        "description": description,
        "container_interval": container_interval,
        "system_interval": system_interval,
        "drive_interval": drive_interval,
        "monitoring_enabled": monitoring,
    }
    for field in unset or ():
        if field not in FIELDS:
            raise UsageError(f"there is no field {field!r}; fields are {', '.join(FIELDS)}")
    changes = {field: value for field, value in given.items() if value is not None}
    if not (changes or unset or accept_host_key or forget_host_key):
        raise UsageError("nothing to change was given; see crossfade devices edit --help")
    registry = _registry(data_dir)

    async def run() -> None:
        devices = await registry.devices()
        before = _known(devices, name)
        values = {**described(before), **dict.fromkeys(unset or ()), **changes}
        after = _with_key_of(before, make(values))
        check_jumps({**devices, name: after})
        if forget_host_key:
            after = replace(after, host_key=None)
        if accept_host_key:
            after = await with_host_key(after, devices, _accept(accept_host_key, new=False))
        await registry.put([after])

    asyncio.run(run())
    typer.echo(f"{name} is changed")


@app.command()
def remove(name: NameArgument, data_dir: DataDirOption = None) -> None:
    """Remove a device; what was read of it stays."""
    asyncio.run(_registry(data_dir).remove(name))
    typer.echo(f"{name} is removed")


@app.command("test")
def try_(
    name: NameArgument,
    accept_host_key: AcceptOption = None,
    accept_new_host_key: AcceptNewOption = False,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Log in to a device, read it once, and show what it can tell; exit 1 when it cannot be read."""
    registry = _registry(data_dir)

    async def run() -> Probe:
        devices = await registry.devices()
        device = _known(devices, name)
        if device.host_key is None or accept_host_key:
            known = await with_host_key(device, devices, _accept(accept_host_key, new=accept_new_host_key))
            if known != device:
                await registry.put([known])
            device = known
        return await look(device, devices)

    probe = asyncio.run(run())
    if format_ is Format.JSON:
        print_json(
            {
                "device": name,
                "ok": probe.problem is None,
                "problem": probe.problem,
                "seconds": round(probe.seconds, 3),
                "host_key": _fingerprint(probe.device),
                **probe.readings,
            }
        )
        raise typer.Exit(0 if probe.problem is None else 1)
    show(probe)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A devices.yaml; - reads stdin.", show_default=False)],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would change.")] = False,
    data_dir: DataDirOption = None,
    format_: FormatOption = Format.TEXT,
) -> None:
    """Add and change the devices of a file; a file with a mistake changes nothing, and devices it lacks stay."""
    text = _read(file)
    registry = _registry(data_dir)

    async def run() -> dict[str, list[str]]:
        known = await registry.devices()
        try:
            devices = load_devices(text, known=known)
        except InvalidDeviceFile as error:
            where = "; ".join(
                f"{file}:{line}: {why}" if line else f"{file}: {why}" for line, why in error.problems
            )
            raise UsageError(f"{where}; nothing was imported") from error
        put = {
            name: _with_key_of(known[name], device) if name in known else device
            for name, device in devices.items()
        }
        changed = [name for name in put if name in known and put[name] != known[name]]
        added = [name for name in put if name not in known]
        if not dry_run:
            await registry.put([put[name] for name in (*added, *changed)])
        unchanged = [name for name in put if name not in changed and name not in added]
        return {"added": added, "changed": changed, "unchanged": unchanged}

    done = asyncio.run(run())
    if format_ is Format.JSON:
        print_json({"file": str(file), "dry_run": dry_run, **done})
        return
    for what, names in done.items():
        if names:
            typer.echo(f"{what}: {', '.join(names)}")
    if not any(done.values()):
        typer.echo("the file has no devices")


def _registry(data_dir: Path | None) -> DeviceRegistry:
    return DeviceRegistry(wiring(data_dir).database_url())


def _known(devices: Mapping[str, Device], name: str) -> Device:
    if name not in devices:
        raise UnknownDevice(name)
    return devices[name]


def _with_key_of(before: Device, after: Device) -> Device:
    """Keep the host key of a device that stays where it is."""
    same = (before.host, before.port, before.jump) == (after.host, after.port, after.jump)
    return replace(after, host_key=before.host_key) if same else after


def _address(text: str, *, user_needed: bool) -> dict[str, Any]:
    found = _ADDRESS.match(text)
    if found is None or (user_needed and not found["user"]):
        raise UsageError(f"{text!r} is not an address; write USER@HOST or USER@HOST:PORT")
    parts = {"host": found["host"].strip("[]"), "user": found["user"], "port": found["port"]}
    return {field: value for field, value in parts.items() if value is not None}


def _accept(wanted: str | None, *, new: bool) -> Callable[[Device, HostKey], bool]:
    """Return what decides on a host key that is not the stored one: an option, or the person at the terminal."""

    def decide(device: Device, shown: HostKey) -> bool:
        if wanted is not None:
            if wanted != shown.fingerprint:
                raise CrossfadeError(
                    f"{device.name}: its host key is {shown.fingerprint}, not {wanted}; nothing was stored"
                )
            return True
        if device.host_key is not None:
            return False
        if new:
            typer.echo(f"host key of {device.where}: {shown.fingerprint}", err=True)
            return True
        if not sys.stdin.isatty():
            raise CrossfadeError(
                f"{device.name}: its host key is {shown.fingerprint}; compare it on the device (ssh-keygen -lf "
                f"/etc/ssh/ssh_host_ed25519_key.pub) and give --accept-host-key {shown.fingerprint}"
            )
        typer.echo(f"host key of {device.where}: {shown.fingerprint}", err=True)
        return typer.confirm("Is that the device's key?", err=True)

    return decide


def _read(file: Path) -> str:
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"{file} cannot be read: {reason}") from None
