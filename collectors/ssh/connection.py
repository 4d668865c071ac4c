"""One SSH connection, opened with nothing taken on trust but what the caller allows, and one script run over it.

asyncssh's defaults are those of a person at a terminal: here no configuration file, no known_hosts, no default keys and
no agent is looked at unless the device names it, and every wait has an end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncssh

from collectors.ssh.credentials import read_private, secret
from collectors.ssh.errors import (
    AccessRefused,
    CredentialsMissing,
    Garbled,
    HostKey,
    HostKeyChanged,
    HostKeyUnknown,
    Unreachable,
)
from monitoring.devices import Device

CONNECT_SECONDS = 10.0
_KEEPALIVE_SECONDS, _KEEPALIVES = 15, 3
_MOST_OUTPUT = 8 << 20
"""Bytes of one run; more is no answer of ours."""
_CHUNK = 1 << 16

Connection = asyncssh.SSHClientConnection


def host_key(line: str) -> HostKey:
    """Read a host key that was stored; raises CredentialsMissing for what is none."""
    try:
        return _host_key(asyncssh.import_public_key(line))
    except (asyncssh.KeyImportError, ValueError):
        raise CredentialsMissing("the stored host key cannot be read; forget it and accept it anew") from None


def _host_key(key: asyncssh.SSHKey) -> HostKey:
    return HostKey(" ".join(key.export_public_key().decode().split()[:2]), key.get_fingerprint())


class _Verifier(asyncssh.SSHClient):
    """Takes the host key that is shown if the caller allows it; remembers it in any case."""

    def __init__(self, *, accept: bool) -> None:
        self._accept = accept
        self.shown: HostKey | None = None

    def validate_host_public_key(self, _host: str, _addr: str, _port: int, key: asyncssh.SSHKey) -> bool:
        """Called for a key that is not the stored one."""
        self.shown = _host_key(key)
        return self._accept


async def open_connection(
    device: Device, *, tunnel: Connection | None = None, trust_first: bool = False
) -> tuple[Connection, HostKey]:
    """Connect and log in within `CONNECT_SECONDS`; return the connection, the caller's to close, and its host key.

    A device without a stored host key is let in only with ``trust_first``, and never with a password: that would be
    given to whoever answers. Raises SshError.
    """
    stored = host_key(device.host_key) if device.host_key else None
    first = stored is None and trust_first and not device.password_from
    verifier = _Verifier(accept=first)
    trusted = [asyncssh.import_public_key(stored.line)] if stored else []
    try:
        async with asyncio.timeout(CONNECT_SECONDS), _credentials(device) as credentials:
            connection = await asyncssh.connect(
                device.host,
                device.port,
                username=device.user,
                tunnel=tunnel,
                client_factory=lambda: verifier,
                known_hosts=(trusted, [], []),
                config=None,
                connect_timeout=CONNECT_SECONDS,
                login_timeout=CONNECT_SECONDS,
                keepalive_interval=_KEEPALIVE_SECONDS,
                keepalive_count_max=_KEEPALIVES,
                disable_trivial_auth=True,
                gss_auth=False,
                gss_kex=False,
                **credentials,
            )
    except asyncssh.HostKeyNotVerifiable as error:
        if verifier.shown is None:
            raise Unreachable(f"its host key cannot be verified: {_plain(error)}") from error
        raise _unverified(device, stored, verifier.shown) from error
    except asyncssh.PermissionDenied as error:
        raise AccessRefused(f"{device.where} lets nobody in with {_ways(device)}: {_plain(error)}") from error
    except TimeoutError as error:
        raise Unreachable(f"{device.where} does not answer within {CONNECT_SECONDS:g} s") from error
    except (asyncssh.DisconnectError, ConnectionResetError, BrokenPipeError) as error:
        # With a stored key only keys of its kind are asked for. A device that has none of that kind has changed its key, and
        # either side may be the first to break off, asyncssh with a sentence, sshd by a reset.
        shown_now = await shown_host_key(device, tunnel=tunnel) if stored else None
        if stored is None or shown_now is None or shown_now == stored:
            raise Unreachable(f"{device.where} broke off: {_plain(error)}") from error
        raise _unverified(device, stored, shown_now) from error
    except (OSError, asyncssh.Error) as error:
        raise Unreachable(f"{device.where} cannot be reached: {_plain(error)}") from error
    shown = verifier.shown or stored
    if shown is None:  # not to be: a connection without either is refused above
        connection.abort()
        raise Unreachable(f"{device.where} showed no host key")
    return connection, shown


def _unverified(device: Device, stored: HostKey | None, shown: HostKey) -> HostKeyChanged | HostKeyUnknown:
    if stored is None:
        return HostKeyUnknown(
            f"its host key {shown.fingerprint} was not accepted yet; compare it on the device and run "
            f"crossfade devices test {device.name}",
            shown,
        )
    return HostKeyChanged(
        f"its host key is {shown.fingerprint}, not {stored.fingerprint} as stored: it was set up anew, or somebody "
        f"else answers; if it is right, run crossfade devices edit {device.name} --accept-host-key {shown.fingerprint}",
        shown=shown,
        stored=stored,
    )


async def shown_host_key(device: Device, *, tunnel: Connection | None = None) -> HostKey | None:
    """Return the host key that a device shows to anybody, before anybody logs in; None when it shows none."""
    with contextlib.suppress(OSError, asyncssh.Error):
        async with asyncio.timeout(CONNECT_SECONDS):
            key = await asyncssh.get_server_host_key(
                device.host, device.port, tunnel=tunnel or (), config=None
            )
            return _host_key(key) if key is not None else None
    return None


@contextlib.asynccontextmanager
async def _credentials(device: Device) -> AsyncIterator[dict[str, Any]]:
    """Give what asyncssh is told of keys and password while it logs in; raises CredentialsMissing."""
    keys: list[Any] = []
    async with contextlib.AsyncExitStack() as stack:
        if device.key_file:
            keys.append(_private_key(device.key_file, device.passphrase_from))
        if device.agent:
            agent = await stack.enter_async_context(await _agent())
            keys += await agent.get_keys()
        yield {
            "client_keys": keys or None,  # None: none at all, not even the user's own
            "agent_path": None,  # asked above, so that only its keys are offered
            "password": secret(device.password_from) if device.password_from else None,
            "kbdint_auth": bool(device.password_from),
        }


def _private_key(key_file: str, passphrase_from: str | None) -> asyncssh.SSHKey:
    path = Path(key_file).expanduser()
    passphrase = secret(passphrase_from) if passphrase_from else None
    try:
        return asyncssh.import_private_key(read_private(path), passphrase)
    except (asyncssh.KeyImportError, asyncssh.KeyEncryptionError, ValueError) as error:
        raise CredentialsMissing(f"{path} is no key that can be used: {_plain(error)}") from error


async def _agent() -> asyncssh.SSHAgentClient:
    socket = os.environ.get("SSH_AUTH_SOCK")
    if not socket:
        raise CredentialsMissing(
            "SSH_AUTH_SOCK is not set where the collector runs: start it from a session that has an SSH agent"
        )
    try:
        return await asyncssh.connect_agent(socket)
    except OSError as error:
        raise CredentialsMissing(f"the SSH agent at {socket} does not answer: {_plain(error)}") from error


def _ways(device: Device) -> str:
    ways = [
        f"the key {device.key_file}" if device.key_file else "",
        "the agent's keys" if device.agent else "",
        "the password" if device.password_from else "",
    ]
    return " or ".join(way for way in ways if way)


def _plain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return " ".join(str(error).split())[:300] or type(error).__name__


async def run_script(connection: Connection, script: str) -> tuple[bytes, bytes]:
    """Run a script with ``sh`` and return what it wrote to stdout and stderr.

    Has no deadline of its own. Raises Unreachable when the connection breaks, Garbled when the output has no end.
    """
    process: asyncssh.SSHClientProcess[bytes] | None = None
    left = _MOST_OUTPUT

    async def read(stream: asyncssh.SSHReader[bytes]) -> bytes:
        nonlocal left
        chunks = []
        while chunk := await stream.read(_CHUNK):
            chunks.append(chunk)
            left -= len(chunk)
            if left < 0:
                raise Garbled(f"more than {_MOST_OUTPUT >> 20} MiB came back")
        return b"".join(chunks)

    try:
        process = await connection.create_process("exec sh -s", encoding=None)
        async with asyncio.TaskGroup() as group:
            out = group.create_task(read(process.stdout))
            err = group.create_task(read(process.stderr))
            process.stdin.write(script.encode())
            process.stdin.write_eof()
        return out.result(), err.result()
    except* Garbled as garbled:
        raise _first(garbled) from None
    except* (OSError, asyncssh.Error) as broken:
        raise Unreachable(f"the connection broke: {_plain(_first(broken))}") from None
    finally:
        if process is not None:
            process.close()  # not waited for: a device that hangs would hold us here, too


def _first(group: BaseExceptionGroup[Any]) -> BaseException:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error
