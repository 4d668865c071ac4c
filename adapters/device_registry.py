"""The registry of devices in the database: ``public.cf_devices``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import asyncpg

from adapters.database_url import asyncpg_url
from adapters.errors import DATABASE_AWAY, AdapterError
from monitoring.devices import Device

_CONNECT_SECONDS = 10.0
_QUERY_SECONDS = 10.0

_COLUMNS = {
    field.name: {"name": "device", "user": "username"}.get(field.name, field.name) for field in fields(Device)
}
"""Field of a device -> its column."""
_SELECTED = ", ".join(f"d.{column}" for column in _COLUMNS.values())


class RegistryUnavailable(AdapterError):  # noqa: N818 - named for what it is
    """The registry cannot be read or written now."""


class UnknownDevice(AdapterError):  # noqa: N818 - see above
    """There is no device of that name."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no device {name!r}; see crossfade devices list")
        self.name = name


class DeviceExists(AdapterError):  # noqa: N818 - see above
    """There is a device of that name already."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"there is a device {name!r} already; change it with crossfade devices edit {name}, or remove it first"
        )
        self.name = name


class DeviceNeeded(AdapterError):  # noqa: N818 - see above
    """The device is another one's jump host."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A device, and what is known of it; None is what was never heard."""

    device: Device
    status: str | None
    sampled_at: datetime | None
    created_at: datetime


class DeviceRegistry:
    """Reads and writes the registry; a connection for each call, for calls are rare. Each raises RegistryUnavailable."""

    def __init__(self, database_url: str) -> None:
        """Raises InvalidDatabaseUrl."""
        self._url = asyncpg_url(database_url)

    @asynccontextmanager
    async def _connection(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        try:
            connection = await asyncpg.connect(
                self._url, timeout=_CONNECT_SECONDS, command_timeout=_QUERY_SECONDS, statement_cache_size=0
            )
            try:
                yield connection
            finally:
                await connection.close(timeout=_QUERY_SECONDS)
        except asyncpg.IntegrityConstraintViolationError:
            raise  # about what was to be written: the caller knows what that means
        except asyncpg.UndefinedTableError as error:
            raise RegistryUnavailable(
                "the database has no registry of devices yet; apply the migrations (crossfade up does it for its own)"
            ) from error
        except asyncpg.InsufficientPrivilegeError as error:
            raise RegistryUnavailable(
                f"the database refuses: {error}; DATABASE_URL needs its owner"
            ) from error
        except DATABASE_AWAY as error:
            # Among them what a server says that starts, stops or is stopped, which asyncpg calls no error of a connection.
            reason = " ".join(str(error).split()) or type(error).__name__
            raise RegistryUnavailable(
                f"the database cannot be asked: {reason}; is crossfade up running here?"
            ) from error

    async def devices(self) -> dict[str, Device]:
        """Return all devices by name."""
        async with self._connection() as connection:
            rows = await connection.fetch(f"select {_SELECTED} from public.cf_devices d order by device")  # noqa: S608 - names of ours
        return {device.name: device for device in map(_device, rows)}

    async def listed(self) -> list[Listed]:
        """Return all devices by name, with what was last heard of each."""
        query = (
            f"select {_SELECTED}, d.created_at, l.status, l.sampled_at from public.cf_devices d "  # noqa: S608 - see above
            "left join public.cf_devices_latest l using (device) order by d.device"
        )
        async with self._connection() as connection:
            rows = await connection.fetch(query)
        return [Listed(_device(row), row["status"], row["sampled_at"], row["created_at"]) for row in rows]

    async def add(self, device: Device) -> None:
        """Add a device; raises DeviceExists, UnknownDevice for its jump host."""
        await self._write([device], replace=False)

    async def put(self, devices: Iterable[Device]) -> None:
        """Add or replace devices, all of them or none; raises UnknownDevice for a jump host."""
        await self._write(list(devices), replace=True)

    async def _write(self, devices: list[Device], *, replace: bool) -> None:
        columns = list(_COLUMNS.values())
        insert = (
            f"insert into public.cf_devices ({', '.join(columns)}) "  # noqa: S608 - see above
            f"values ({', '.join(f'${number}' for number in range(1, len(columns) + 1))})"
        )
        if replace:
            insert += " on conflict (device) do update set " + ", ".join(
                f"{column} = excluded.{column}" for column in columns if column != "device"
            )
        try:
            async with self._connection() as connection, connection.transaction():
                for device in devices:
                    await connection.execute(insert, *(getattr(device, field) for field in _COLUMNS))
        except asyncpg.UniqueViolationError as error:
            raise DeviceExists(devices[0].name) from error
        except asyncpg.ForeignKeyViolationError as error:
            raise UnknownDevice(next((device.jump for device in devices if device.jump), "") or "") from error

    async def remove(self, name: str) -> None:
        """Remove a device; its history stays. Raises UnknownDevice, DeviceNeeded."""
        try:
            async with self._connection() as connection, connection.transaction():
                done = await connection.execute("delete from public.cf_devices where device = $1", name)
        except asyncpg.ForeignKeyViolationError as error:
            raise DeviceNeeded(f"{name} is the jump host of other devices; change those first") from error
        if done == "DELETE 0":
            raise UnknownDevice(name)

    async def store_first_key(self, name: str, host: str, host_key: str) -> bool:
        """Store the host key of a device that has none and still is at ``host``; tell whether it was stored."""
        async with self._connection() as connection:
            done = await connection.execute(
                "update public.cf_devices set host_key = $3 where device = $1 and host = $2 and host_key is null",
                *(name, host, host_key),
            )
        return bool(done == "UPDATE 1")


def _device(row: Mapping[str, Any]) -> Device:
    return Device(**{field: row[column] for field, column in _COLUMNS.items()})
