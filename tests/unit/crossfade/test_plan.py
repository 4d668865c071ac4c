from __future__ import annotations

from pathlib import Path

import pytest

from crossfade.addresses import is_loopback, join, reachable
from crossfade.errors import DataDirError, UsageError
from crossfade.parts import build
from crossfade.paths import DataDir, read_json, write_json
from crossfade.plan import OPTIONAL, PARTS, Addresses, Plan, choose
from crossfade.settings import Settings
from crossfade.supervisor.supervisor import Service


def test_all_parts_run_in_order_unless_told_otherwise() -> None:
    usual = tuple(part for part in PARTS if part not in {"bridge", *OPTIONAL})
    assert choose((), (), hosted=False, gateway=True) == usual
    assert choose((), (), hosted=False) == tuple(part for part in usual if part != "gateway")
    assert choose((), ("dashboard,parity",), hosted=False) == (
        "postgres",
        "migrations",
        "realtime",
        "query",
        "legacy",
        "collect",
        "rollout",
        "alerts",
    )
    assert choose(("realtime", "postgres"), (), hosted=False) == ("postgres", "realtime")


def test_what_is_off_runs_when_it_is_asked_for_in_one_way_or_another() -> None:
    assert choose(("query", "push"), (), hosted=False) == ("query", "legacy")
    assert choose(("query", "control"), (), hosted=False) == ("query", "control")
    assert choose(("query",), (), ("analytics", ""), hosted=False) == ("query", "analytics")
    every = choose((), (), ("analytics,control", "mcp"), hosted=False)
    assert set(PARTS) - set(every) == {"bridge", "gateway"}
    assert choose((), (), ("analytics", "control"), hosted=True, secret=False) == choose(
        (), (), hosted=True, secret=False
    )
    assert "control" not in choose((), ("control",), ("control",), hosted=False)


def test_the_query_service_has_the_routes_of_analytics_unless_that_is_a_part(tmp_path: Path) -> None:
    for parts, mounted in ((("query",), True), (("query", "analytics"), False)):
        plan = Plan(
            data=DataDir.of(tmp_path),
            addresses=Addresses("127.0.0.1", 1, 2, 5, 3, 4),
            settings=Settings(_env_file=None),
            parts=parts,
            flags=tmp_path / "flags.yaml",
        )
        query = build(plan)[0]
        assert isinstance(query, Service)
        assert ("--mount" in query.command().argv) is mounted


def test_a_hosted_supabase_needs_no_embedded_parts() -> None:
    assert choose((), (), hosted=True) == (
        "query",
        "legacy",
        "collect",
        "parity",
        "rollout",
        "alerts",
        "dashboard",
    )


def test_a_hosted_supabase_without_its_jwt_secret_has_no_query_service() -> None:
    assert choose((), (), hosted=True, secret=False) == (
        "legacy",
        "collect",
        "parity",
        "rollout",
        "alerts",
        "dashboard",
    )
    assert "query" in choose((), (), hosted=False, secret=False)


def test_another_s_server_brings_its_bridge_and_leaves_out_what_it_replaces() -> None:
    assert choose((), (), hosted=False, foreign=True) == (
        *("postgres", "migrations", "realtime", "query", "bridge", "alerts", "dashboard"),
    )
    assert choose(("collect", "bridge", "legacy"), (), hosted=False, foreign=True) == ("collect", "bridge")


def test_a_name_that_is_no_part_is_refused_with_the_names_that_are() -> None:
    with pytest.raises(UsageError, match="'redis' is not a part; parts are postgres"):
        choose((), ("redis",), hosted=False)
    with pytest.raises(UsageError, match="no part is left"):
        choose(("postgres",), (), hosted=True)


def test_addresses_of_any_interface_are_reached_by_loopback() -> None:
    at = Addresses("0.0.0.0", 1, 2, 5, 3, 4)
    assert (at.supabase, at.legacy, at.legacy_link) == (
        "http://127.0.0.1:1",
        "ws://127.0.0.1:3/ws",
        "ws://127.0.0.1:3/link",
    )
    assert at.shown("postgres") == "0.0.0.0:2"
    assert Addresses("::", 1, 2, 5, 3, 4).dashboard == "http://[::1]:4"
    assert Addresses(**at.to_json()) == at


def test_each_listener_names_the_option_that_moves_it() -> None:
    at = Addresses("127.0.0.1", 1, 2, 5, 3, 4)
    assert {listener.part: listener.option for listener in at.listeners(PARTS)} == {
        "realtime": "--port-supabase",
        "postgres": "--port-database",
        "query": "--port-query",
        "analytics": "--port-analytics",
        "mcp": "--port-mcp",
        "control": "--port-control",
        "legacy": "--port-legacy",
        "dashboard": "--port-dashboard",
    }
    assert at.listeners(("collect",)) == []


def test_mounts_of_the_legacy_server_are_listeners_by_name_each_address_once() -> None:
    mounts = "8090/=containers,8090/ws=frontend,10.0.0.1:8080/ws=dashboard,3/old=metrics"
    at = Addresses("127.0.0.1", 1, 2, 5, 3, 4, mounts)
    listeners = at.listeners(("legacy",))
    assert [(one.part, one.address, one.option) for one in listeners] == [
        ("legacy", "127.0.0.1:3", "--port-legacy"),
        ("legacy, containers at /,", "127.0.0.1:8090", "--legacy-mount"),
        ("legacy, dashboard at /ws,", "10.0.0.1:8080", "--legacy-mount"),
    ]
    assert Addresses(**at.to_json()) == at


def test_only_a_named_data_directory_is_named_in_hints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert DataDir.of(Path(".crossfade")).option == ""
    assert DataDir.of(Path("x")).option == f" --data-dir {tmp_path}/x"
    assert DataDir.of(Path("a b")).option == f" --data-dir '{tmp_path}/a b'"


def test_each_flag_file_has_a_good_text_of_its_own(tmp_path: Path) -> None:
    data = DataDir.of(tmp_path)
    places = {data.good_flags(tmp_path / name) for name in ("flags.yaml", "other.yaml", "flags.yaml")}
    assert len(places) == 2
    assert {place.parent for place in places} == {data.run}


def test_only_a_plan_that_says_so_lets_anybody_sign_up(tmp_path: Path) -> None:
    for signup in (False, True):
        plan = Plan(
            data=DataDir.of(tmp_path),
            addresses=Addresses("127.0.0.1", 1, 2, 5, 3, 4),
            settings=Settings(_env_file=None),
            parts=("realtime",),
            flags=tmp_path / "flags.yaml",
            signup=signup,
        )
        (realtime,) = build(plan)
        assert isinstance(realtime, Service)
        assert ("--enable-signup" in realtime.command().argv) is signup


def test_hosts_are_told_apart() -> None:
    assert is_loopback("127.0.0.1")
    assert is_loopback("localhost")
    assert not is_loopback("0.0.0.0")
    assert reachable("10.0.0.1") == "10.0.0.1"
    assert join("::1", 5) == "[::1]:5"


def test_a_data_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    before = tmp_path.stat().st_mode
    data = DataDir.of(tmp_path / "deep" / "data")
    data.create()
    data.create()
    assert {path.stat().st_mode & 0o777 for path in (data.root, data.run, data.logs, data.supabase)} == {
        0o700
    }
    assert tmp_path.stat().st_mode == before


def test_a_file_in_the_way_of_a_data_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataDirError, match="is a file; choose another with --data-dir"):
            DataDir.of(path).create()


def test_a_json_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert read_json(path) is None
    write_json(path, {"a": 1})
    write_json(path, {"a": 2})
    assert read_json(path) == {"a": 2}
    path.write_text("{")
    assert read_json(path) is None
    assert [entry.name for entry in tmp_path.iterdir()] == ["state.json"]


def test_the_gateway_needs_an_address_and_our_own_legacy_server() -> None:
    with pytest.raises(UsageError, match="told where to listen"):
        choose(("gateway",), (), hosted=False)
    with pytest.raises(UsageError, match="our own legacy server"):
        choose((), (), hosted=False, foreign=True, gateway=True)
    at = Addresses("127.0.0.1", 1, 2, 5, 3, 4, gateway_mounts="8080/ws=dashboard,8080/old=metrics")
    assert at.gateway == "ws://127.0.0.1:8080/ws"
    assert [(one.address, one.option) for one in at.listeners(("gateway",))] == [
        ("127.0.0.1:8080", "--gateway")
    ]
