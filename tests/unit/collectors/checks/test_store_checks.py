from __future__ import annotations

from typing import Any

import pytest

from collectors.checks import postgres, redis
from collectors.checks.config import PostgresCheck, RedisCheck
from monitoring.device_status import Outcome

POSTGRES = PostgresCheck.model_validate({"postgres": "postgresql://h/d", "slow": "1s"})
REDIS = RedisCheck.model_validate({"redis": "redis://h", "slow": "10ms"})


def database(used: int = 5, lag: float | None = None, replicas: Any = None) -> dict[str, Any]:
    return {
        "connections": {"limit": 100, "used": used},
        "replication": {"lag_seconds": lag, "replicas": replicas},
    }


@pytest.mark.parametrize(
    ("details", "latency", "reason"),
    [
        (database(), 0.1, "it answers"),
        (database(used=95), 0.1, "95 of 100 connections are in use"),
        (database(lag=90.4), 0.1, "it is 90 s behind its primary"),
        (database(replicas=[{"name": "b", "lag_seconds": 61.0}, {"name": "c", "lag_seconds": None}]), 0.1, "b is 61 s behind its primary"),
        (database(), 1.5, "it answers after 1.50 s, slower than 1 s"),
        ({"connections": None, "replication": None}, 0.1, "it answers"),
    ],
)  # fmt: skip
def test_a_database_that_answers_is_graded(details: Any, latency: float, reason: str) -> None:
    outcome, said = postgres.graded(details, POSTGRES, latency)
    assert said == reason
    assert outcome == (Outcome.WHOLE if reason == "it answers" else Outcome.PARTIAL)


@pytest.mark.parametrize(
    ("info", "latency", "reason"),
    [
        ({}, 0.001, "it answers"),
        ({"used_memory": 95, "maxmemory": 100}, 0.001, "95 % of its memory is in use"),
        ({"used_memory": 95, "maxmemory": 0}, 0.001, "it answers"),
        ({"master_link_status": "down"}, 0.001, "the link to its primary is down"),
        ({"rdb_last_bgsave_status": "err"}, 0.001, "it could not write its data to the disk"),
        ({}, 0.02, "it answers after 20 ms, slower than 10 ms"),
    ],
)
def test_a_redis_that_answers_is_graded(info: Any, latency: float, reason: str) -> None:
    _, said = redis.graded(redis.described(info), REDIS, latency)
    assert said == reason


def test_what_info_leaves_out_is_null() -> None:
    told = redis.described({"keyspace_hits": 3, "keyspace_misses": 1, "db0": {"keys": 7, "expires": 0}})
    assert (told["hit_percent"], told["keys"], told["version"]) == (75.0, {"db0": 7}, None)
    assert redis.described({"keyspace_hits": 0, "keyspace_misses": 0})["hit_percent"] is None
