"""Redis checks: the time of a PING, and what INFO says. What a server does not say (forks leave much out) is null."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from redis import asyncio as client
from redis.exceptions import AuthenticationError, RedisError, ResponseError
from redis.exceptions import ConnectionError as Unconnected

from collectors.checks.config import RedisCheck
from collectors.checks.result import Result, milliseconds
from monitoring.device_status import Outcome

_FIELDS: Mapping[str, str] = {
    "version": "redis_version",
    "role": "role",
    "uptime_seconds": "uptime_in_seconds",
    "clients": "connected_clients",
    "blocked_clients": "blocked_clients",
    "memory_used_bytes": "used_memory",
    "memory_peak_bytes": "used_memory_peak",
    "fragmentation_ratio": "mem_fragmentation_ratio",
    "commands_per_second": "instantaneous_ops_per_sec",
    "commands": "total_commands_processed",
    "keyspace_hits": "keyspace_hits",
    "keyspace_misses": "keyspace_misses",
    "evicted_keys": "evicted_keys",
    "expired_keys": "expired_keys",
    "rejected_connections": "rejected_connections",
    "replicas": "connected_slaves",
    "primary_link": "master_link_status",
    "last_save_status": "rdb_last_bgsave_status",
    "last_append_status": "aof_last_write_status",
}
"""Our name -> INFO's."""


class RedisProbe:
    """Asks one server, over a connection of its own each time."""

    def __init__(self, check: RedisCheck) -> None:
        self._check = check

    async def __call__(self) -> Result:
        """Ask once. Never raises for what the server does."""
        check = self._check
        connection = client.Redis.from_url(check.redis, client_name="crossfade-check", retry=None)
        try:
            async with asyncio.timeout(check.timeout_seconds):
                await connection.ping()  # connects, which is not what a command takes
                began = time.perf_counter()
                await connection.ping()
                latency = time.perf_counter() - began
                info: Mapping[str, Any] = await connection.info()
        except TimeoutError:
            return Result(Outcome.SILENT, f"no answer within {check.timeout_seconds:g} s")
        except (AuthenticationError, ResponseError) as error:
            return Result(Outcome.REFUSED, f"it refuses: {error}")
        except (Unconnected, OSError) as error:
            return _unconnected(error)
        except RedisError as error:
            return Result(Outcome.REFUSED, f"its answer is not Redis's: {error}")
        finally:
            await connection.aclose(close_connection_pool=True)
        details = described(info)
        outcome, reason = graded(details, check, latency)
        return Result(outcome, reason, latency, {**details, "ping_ms": milliseconds(latency)})


def _unconnected(error: BaseException) -> Result:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ConnectionRefusedError):
            return Result(Outcome.REFUSED, "the connection is refused; nothing listens there")
        cause = cause.__cause__ or cause.__context__
    return Result(Outcome.SILENT, f"it cannot be reached: {error}")


def described(info: Mapping[str, Any]) -> dict[str, Any]:
    """Return what INFO says by our names."""
    told: dict[str, Any] = {ours: info.get(theirs) for ours, theirs in _FIELDS.items()}
    # 0 is how it says that there is no limit
    told["memory_limit_bytes"] = info.get("maxmemory") or None
    hits, misses = told["keyspace_hits"], told["keyspace_misses"]
    asked = hits + misses if hits is not None and misses is not None else 0
    told["hit_percent"] = round(100 * hits / asked, 2) if asked else None
    databases = {
        name: each for name, each in info.items() if name.startswith("db") and isinstance(each, dict)
    }
    told["keys"] = {name: each.get("keys") for name, each in sorted(databases.items())}
    return told


def graded(details: Mapping[str, Any], check: RedisCheck, latency: float) -> tuple[Outcome, str]:
    """Return how a server that answers is: whole, or partial with the reason."""
    used, limit = details["memory_used_bytes"], details["memory_limit_bytes"]
    if limit and used is not None and 100 * used / limit > check.memory_percent:
        return Outcome.PARTIAL, f"{100 * used / limit:.0f} % of its memory is in use"
    if details["primary_link"] not in {None, "up"}:
        return Outcome.PARTIAL, f"the link to its primary is {details['primary_link']}"
    for what in ("last_save_status", "last_append_status"):
        if details[what] not in {None, "ok"}:
            return Outcome.PARTIAL, "it could not write its data to the disk"
    if check.slow is not None and latency > check.slow:
        return (
            Outcome.PARTIAL,
            f"it answers after {latency * 1000:.0f} ms, slower than {check.slow * 1000:g} ms",
        )
    return Outcome.WHOLE, "it answers"
