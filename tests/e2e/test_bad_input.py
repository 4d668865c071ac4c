"""What a person gets wrong: one clear line, no traceback, the right exit code, nothing lost."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.conftest import EmbeddedSupabase
from tests.e2e.installation import CROSSFADE, Installation, clean_environment, events, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.xdist_group("e2e")]


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Check that a command failed with one understandable line."""
    assert done.returncode not in {0, None}, done.stdout + done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert lines, "it failed without a word"
    for word in words:
        assert word in lines[-1], done.stderr


def alone(tmp_path: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in an empty directory."""
    return subprocess.run(
        [CROSSFADE, *words], cwd=tmp_path, env=clean_environment(**environment), timeout=60,
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_a_second_up_says_that_the_first_runs(installation: Installation) -> None:
    refused(installation.run("up"), "already", str(installation.process.pid if installation.process else ""))


def test_a_taken_port_is_named_with_its_owner_and_the_option(
    installation: Installation, tmp_path: Path
) -> None:
    port = installation.part("legacy")["address"].rpartition(":")[2].partition("/")[0]
    done = alone(tmp_path, "up", "--only", "legacy", "--port-legacy", port)
    refused(done, port, f"pid {installation.part('legacy')['pid']}", "--port-legacy")


def test_a_broken_flag_file_keeps_the_last_good_one_and_names_the_line(installation: Installation) -> None:
    path = installation.directory / ".crossfade" / "flags.yaml"
    good = path.read_text()
    watcher = installation.begin("watch", "--client", "steady", "--for", "4s", "--verify")
    try:
        path.write_text(good.replace("percent: 0", "percent: 100").replace("kill: false", "kil: false"))
        refused(installation.run("flags", "list"), "line", "kil")
        _, err = watcher.communicate(timeout=30)
    finally:
        path.write_text(good)
    assert watcher.returncode == 0, err
    assert "moved" not in err


def test_what_starts_while_the_flag_file_is_broken_has_the_last_good_flags(
    installation: Installation,
) -> None:
    path = installation.directory / ".crossfade" / "flags.yaml"
    before = path.read_text()
    api = int(installation.part("realtime")["address"].rpartition(":")[2])
    assert installation.run("flags", "set", "live.percent", "100").returncode == 0
    path.write_text(path.read_text().replace("kill: false", "kil: false"))
    try:
        watcher = installation.begin("watch", "--client", "newcomer", "--verify")
        assert watcher.stdout is not None
        printed = watcher.stdout.readline()
        peers = {each.raddr.port for each in psutil.Process(watcher.pid).net_connections() if each.raddr}
        watcher.send_signal(signal.SIGINT)
        out, err = watcher.communicate(timeout=30)
        status = installation.run("status", "--format", "json")
        wait_until("up says it too", lambda: "flags: " in installation.log, 10)
    finally:
        path.write_text(before)
    assert api in peers
    assert events(printed + out)
    assert watcher.returncode == 0, err
    (said,) = [line for line in err.splitlines() if line.startswith("flags: ")]
    assert "line " in said
    assert "kil" in said
    assert said.endswith("the last good flags stay in force")
    assert f"{said}\n" in installation.log
    assert status.returncode == 1
    (check,) = [check for check in json.loads(status.stdout)["checks"] if check["name"] == "flags"]
    assert check["detail"].endswith("stay in force: 100 % of clients on Supabase")
    wait_until("up says that it is good again", lambda: "flags: good again" in installation.log, 10)


def test_a_wrong_flag_value_is_refused_and_nothing_is_written(installation: Installation) -> None:
    path = installation.directory / ".crossfade" / "flags.yaml"
    before = path.read_text()
    for key, value, words in (("live.percent", "101", "0 to 100"), ("live.percents", "10", "live.percent")):
        done = installation.run("flags", "set", key, value)
        refused(done, words)
        assert done.returncode == 2
    assert path.read_text() == before


def test_a_wrong_key_says_which_setting_to_change(
    embedded_supabase: EmbeddedSupabase, tmp_path: Path
) -> None:
    done = alone(
        tmp_path, "watch", "--backend", "supabase", "--for", "5s",
        SUPABASE_URL=embedded_supabase.url, SUPABASE_KEY="nonsense", DATABASE_URL="postgresql://x@127.0.0.1:1/x",
    )  # fmt: skip
    refused(done, "SUPABASE_KEY")


def test_a_supabase_that_cannot_be_reached_is_no_data(tmp_path: Path) -> None:
    done = alone(
        tmp_path, "watch", "--backend", "supabase", "--for", "3s",
        SUPABASE_URL="http://127.0.0.1:9", SUPABASE_KEY="x.y.z", DATABASE_URL="postgresql://x@127.0.0.1:9/x",
    )  # fmt: skip
    assert "Traceback" not in done.stderr
    assert "127.0.0.1:9" in done.stderr
    assert done.returncode != 0


def test_a_failing_migration_is_named_with_its_line(tmp_path: Path) -> None:
    migrations = tmp_path / "supabase" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "20260101000000_broken.sql").write_text(
        "create table a (id int);\n\ncreate tabel b (id int);\n"
    )
    done = alone(tmp_path, "supabase", "start", "--port-supabase", "0", "--port-database", "0")
    refused(done, "20260101000000_broken.sql:3")
    assert "nothing runs" in alone(tmp_path, "supabase", "stop").stdout


def test_a_migration_that_never_ends_can_be_interrupted(tmp_path: Path) -> None:
    migrations = tmp_path / "supabase" / "migrations"
    migrations.mkdir(parents=True)
    (migrations / "20260101000000_endless.sql").write_text("select pg_sleep(600);\n")
    process = subprocess.Popen(
        [CROSSFADE, "supabase", "run", "--port-supabase", "0", "--port-database", "0"],
        cwd=tmp_path, env=clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        said = ""
        while "migrations: starting" not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0, said + rest
    assert "migrations: stopped" in rest


@pytest.mark.parametrize("directory", ["/proc/nowhere", "/dev/null/data"])
def test_a_data_directory_that_cannot_be_written_is_said(directory: str, tmp_path: Path) -> None:
    refused(alone(tmp_path, "up", "--data-dir", directory), directory)


def test_anybody_may_sign_up_only_where_that_was_asked_for(tmp_path: Path) -> None:
    answers = []
    for options in ([], ["--enable-signup"]):
        done = alone(
            tmp_path, "supabase", "start", "--port-supabase", "0", "--port-database", "0", *options
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        try:
            facts = json.loads(alone(tmp_path, "supabase", "status", "-o", "json").stdout)
            answers.append(
                httpx.post(
                    f"{facts['API_URL']}/auth/v1/signup",
                    headers={"apikey": facts["ANON_KEY"]},
                    json={"email": "someone@example.com", "password": "correct horse battery"},
                )
            )
        finally:
            assert alone(tmp_path, "supabase", "stop").returncode == 0
    refusal, welcome = answers
    assert refusal.json()["error_code"] == "signup_disabled"
    assert welcome.status_code == 200, welcome.text


def test_nothing_running_is_said(tmp_path: Path) -> None:
    elsewhere = alone(tmp_path, "status", "--data-dir", "else where")
    assert f"crossfade up --data-dir '{tmp_path}/else where'" in " ".join(elsewhere.stdout.split())
    refused(alone(tmp_path, "watch"), "crossfade up")
    assert alone(tmp_path, "status").returncode == 1
    assert alone(tmp_path, "validate", "live", "--for", "1s").returncode == 2


@pytest.mark.parametrize(
    "words",
    [["up", "--for", "soon"], ["watch", "--topic", "hosts.x"], ["up", "--only", "nothing"], ["frobnicate"]],
)
def test_wrong_usage_exits_with_2(words: list[str], installation: Installation) -> None:
    done = installation.run(*words)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr


def test_a_hosted_project_needs_only_its_url_key_and_database(
    embedded_supabase: EmbeddedSupabase, tmp_path: Path
) -> None:
    """The embedded Supabase stands in as the hosted one: reached by URL and key alone."""
    made = Installation(
        tmp_path,
        clean_environment(
            SUPABASE_URL=embedded_supabase.url,
            SUPABASE_KEY=embedded_supabase.keys.service_role_key,
            DATABASE_URL=embedded_supabase.postgres.url().replace("postgresql://", "postgresql+asyncpg://"),
        ),
    )
    try:
        made.start("--without", "dashboard", "--no-docker", "--without", "parity")
        done = made.run("watch", "--backend", "supabase", "--topic", "devices.e2e", "--for", "4s", "--verify")
        assert done.returncode == 0, done.stderr
        assert len(events(done.stdout)) >= 4
        report = json.loads(made.run("status", "--format", "json").stdout)
        assert "postgres" not in {check["name"] for check in report["checks"]}
    finally:
        made.remove()


def test_a_hosted_project_is_well_with_its_anon_key_and_a_users_token(
    embedded_supabase: EmbeddedSupabase, tmp_path: Path
) -> None:
    hosted = {
        "SUPABASE_URL": embedded_supabase.url,
        "SUPABASE_KEY": embedded_supabase.keys.anon_key,
        "DATABASE_URL": embedded_supabase.postgres.url(),
    }

    def supabase(**more: str) -> dict[str, Any]:
        done = alone(tmp_path, "doctor", "--format", "json", **{**hosted, **more})
        checks: dict[str, dict[str, Any]] = {
            check["name"]: check for check in json.loads(done.stdout)["checks"]
        }
        return checks["supabase"]

    assert supabase(CROSSFADE_ACCESS_TOKEN=embedded_supabase.token())["ok"]
    alone_ = supabase()
    assert not alone_["ok"]
    assert "set CROSSFADE_ACCESS_TOKEN" in alone_["detail"]
    assert "correct SUPABASE_KEY" in supabase(SUPABASE_KEY="nonsense")["detail"]


def test_doctor_looks_and_says_what_to_do(installation: Installation, tmp_path: Path) -> None:
    taken = installation.part("legacy")["address"].rpartition(":")[2].partition("/")[0]
    done = alone(tmp_path, "doctor", "--format", "json", CROSSFADE_PORT_LEGACY=taken)
    assert done.returncode == 1, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert {
        "data directory",
        "disk",
        "flags",
        "database",
        "migrations",
        "alert channels",
        "docker",
    } <= checks.keys()
    port = checks["port of legacy"]
    assert not port["ok"]
    assert f"pid {installation.part('legacy')['pid']}" in port["detail"]
    assert "--port-legacy" in port["advice"]
    assert not checks["alert channels"]["ok"]
    assert checks["alert channels"]["note"]
