"""The REST endpoint over plain HTTP: headers, statuses, odd names, changes of the schema."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from websockets.asyncio.client import connect

from embedded.keys import sign
from services.headers import SECURE

if TYPE_CHECKING:
    from asyncpg import Connection

    from tests.integration.embedded_rest.conftest import Gateway

REST = "/rest/v1"


async def code_of(response: httpx.Response) -> tuple[int, str]:
    body = response.json()
    assert body.keys() == {"code", "details", "hint", "message"}
    assert response.headers["Proxy-Status"] == f"PostgREST; error={body['code']}"
    return response.status_code, body["code"]


@pytest.fixture(autouse=True)
async def fresh(admin: Connection) -> None:
    await admin.execute("truncate items, pairs, odd restart identity")
    await admin.execute("insert into items (name) select 'n' || i from generate_series(1, 5) i")


async def test_ranges_and_counts(http: httpx.AsyncClient) -> None:
    whole = await http.get(f"{REST}/items?select=id")
    assert (whole.status_code, whole.headers["Content-Range"]) == (200, "0-4/*")
    assert whole.headers["Content-Type"] == "application/json; charset=utf-8"
    part = await http.get(
        f"{REST}/items?select=id&order=id", headers={"Range": "1-2", "Prefer": "count=exact"}
    )
    assert (part.status_code, part.headers["Content-Range"]) == (206, "1-2/5")
    assert part.headers["Preference-Applied"] == "count=exact"
    assert part.json() == [{"id": 2}, {"id": 3}]
    beyond = await http.get(f"{REST}/items?offset=9", headers={"Prefer": "count=exact"})
    assert await code_of(beyond) == (416, "PGRST103")
    head = await http.head(f"{REST}/items", headers={"Prefer": "count=exact"})
    assert (head.status_code, head.headers["Content-Range"], head.content) == (200, "0-4/5", b"")


async def test_an_answer_has_at_most_1000_rows(http: httpx.AsyncClient) -> None:
    got = await http.get(f"{REST}/rpc/numbers?upto=1500")
    assert len(got.json()) == 1000
    assert got.headers["Content-Range"] == "0-999/*"


async def test_names_that_need_quotes(http: httpx.AsyncClient) -> None:
    row = {"a b": 1, 'se"lect': "x", "order.by": "y"}
    made = await http.post(f"{REST}/odd", json=row, headers={"Prefer": "return=representation"})
    assert made.json() == [row]
    query = {"select": r'"a b",k:"se\"lect"', '"order.by"': "eq.y", "order": '"a b".desc'}
    got = await http.get(f"{REST}/odd", params=query)
    assert got.json() == [{"a b": 1, "k": "x"}]


async def test_views_can_be_read(http: httpx.AsyncClient) -> None:
    assert len((await http.get(f"{REST}/cheap?name=eq.n1")).json()) == 1


async def test_upsert_status_says_whether_rows_were_new(http: httpx.AsyncClient) -> None:
    merge = {"Prefer": "resolution=merge-duplicates"}
    statuses = [
        (await http.post(f"{REST}/pairs", json=rows, headers=merge)).status_code
        for rows in ([{"a": 1, "b": 1}], [{"a": 1, "b": 1}], [{"a": 1, "b": 1}, {"a": 2, "b": 2}])
    ]
    assert statuses == [201, 200, 201]


async def test_statuses_of_writes(http: httpx.AsyncClient) -> None:
    shown = {"Prefer": "return=representation"}
    assert (await http.post(f"{REST}/items", json={"name": "x"})).status_code == 201
    patched = await http.patch(f"{REST}/items?id=lte.2", json={"name": "y"})
    assert (patched.status_code, patched.headers["Content-Range"], patched.content) == (204, "0-1/*", b"")
    none = await http.patch(f"{REST}/items?id=eq.99", json={"name": "y"}, headers=shown)
    assert (none.status_code, none.json()) == (200, [])
    nothing_to_set = await http.patch(f"{REST}/items?id=eq.1", json={}, headers=shown)
    assert (nothing_to_set.status_code, nothing_to_set.json()) == (200, [])
    assert (await http.delete(f"{REST}/items?id=eq.1")).status_code == 204
    single = {"Prefer": "return=representation", "Accept": "application/vnd.pgrst.object+json"}
    made = await http.post(f"{REST}/items?select=name", json={"name": "z"}, headers=single)
    assert made.json() == {"name": "z"}
    too_many = await http.patch(f"{REST}/items?id=gt.1", json={"name": "lost"}, headers=single)
    assert await code_of(too_many) == (406, "PGRST116")
    assert (await http.get(f"{REST}/items?name=eq.lost")).json() == [], "rolled back"


async def test_defaults_for_rows_without_keys(http: httpx.AsyncClient) -> None:
    shown = {"Prefer": "return=representation"}
    for body, rows in [({}, 1), ([{}, {}], 2), ([], 0)]:
        made = await http.post(f"{REST}/defaults_only", json=body, headers=shown)
        assert (made.status_code, [row["made"] for row in made.json()]) == (201, ["so"] * rows)


async def test_nulls_can_be_left_out(http: httpx.AsyncClient) -> None:
    accept = {"Accept": "application/vnd.pgrst.array+json;nulls=stripped"}
    got = await http.get(f"{REST}/items?select=id,feeling&id=eq.1", headers=accept)
    assert got.json() == [{"id": 1}]


@pytest.mark.parametrize(
    ("call", "status", "code"),
    [
        ("nope", 404, "PGRST202"),
        ("add?a=x", 400, "22P02"),
        ("write_pair?a=1&b=1", 405, "25006"),
        ("teapot", 418, "PT418"),
        ("refuse", 400, "P0001"),
    ],
)
async def test_errors_of_functions(http: httpx.AsyncClient, call: str, status: int, code: str) -> None:
    assert await code_of(await http.get(f"{REST}/rpc/{call}")) == (status, code)


async def test_functions_shape_their_answer(http: httpx.AsyncClient) -> None:
    custom = await http.post(f"{REST}/rpc/custom")
    assert (custom.status_code, custom.json()["code"], custom.headers["X-Powered-By"]) == (402, "123", "Nerd")
    own = await http.post(f"{REST}/rpc/respond")
    assert (own.status_code, own.headers["X-Extra"], own.json()) == (202, "yes", {"fine": True})
    assert (await http.post(f"{REST}/rpc/nothing")).status_code == 204
    assert (await http.post(f"{REST}/rpc/whole", content=b"[1, 2.50]")).content == b"[1, 2.50]"
    told = (await http.get(f"{REST}/rpc/who", headers={"X-Agent": "me", "Cookie": "a=b"})).json()
    assert (told["agent"], told["cookies"], told["search_path"]) == (
        "me",
        {"a": "b"},
        '"public", "extensions"',
    )


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{REST}/", 400, "PGRST127"),
        ("GET", f"{REST}/a/b", 404, "PGRST125"),
        ("GET", f"{REST}/items?select=x", 400, "42703"),
        ("GET", f"{REST}/items?id=eq.x", 400, "22P02"),
        ("GET", f"{REST}/items?id=eq.%00", 400, "22021"),
        ("GET", f"{REST}/items?id=what.1", 400, "PGRST100"),
        ("GET", f"{REST}/items?name=like(any).x", 400, "22P02"),
        ("GET", f"{REST}/items?id=like.1", 404, "42883"),
        ("PUT", f"{REST}/items", 400, "PGRST127"),
        ("POST", f"{REST}/items", 400, "PGRST102"),
        ("DELETE", f"{REST}/items", 400, "21000"),
    ],
)
async def test_bad_requests(http: httpx.AsyncClient, method: str, path: str, status: int, code: str) -> None:
    assert await code_of(await http.request(method, path)) == (status, code)


async def test_callers_without_rights(gateway: Any) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        nobody = await client.get(f"{REST}/items")
        assert await code_of(nobody) == (401, "PGRST302")
        denied = await client.get(f"{REST}/secrets", params={"apikey": gateway.keys.anon_key})
        assert await code_of(denied) == (401, "42501")
        expired = sign({"role": "authenticated", "exp": time.time() - 60}, gateway.keys.jwt_secret)
        late = await client.get(
            f"{REST}/items",
            headers=gateway.headers(gateway.keys.anon_key) | {"Authorization": f"Bearer {expired}"},
        )
        assert await code_of(late) == (401, "PGRST303")
        assert (
            late.headers["WWW-Authenticate"]
            == 'Bearer error="invalid_token", error_description="JWT expired"'
        )
        unknown = sign({"role": "no_such_role"}, gateway.keys.jwt_secret)
        assert (await client.get(f"{REST}/items", headers=gateway.headers(unknown))).status_code in {401, 403}


async def test_role_settings_apply(http: httpx.AsyncClient, gateway: Any, admin: Connection) -> None:
    await admin.execute("alter role anon set statement_timeout = '50ms'")
    await admin.execute("create or replace function nap() returns void language sql as 'select pg_sleep(5)'")
    await admin.execute("notify pgrst")
    deadline = time.monotonic() + 10
    try:
        while True:
            got = await http.post(f"{REST}/rpc/nap", headers=gateway.headers(gateway.keys.anon_key))
            if got.status_code == 500 and got.json()["code"] == "57014":
                break
            assert time.monotonic() < deadline, got.text
    finally:
        await admin.execute("alter role anon reset statement_timeout; drop function nap()")


async def test_cross_origin_requests_are_allowed_everywhere(http: httpx.AsyncClient) -> None:
    for path in (f"{REST}/items", "/health", "/nowhere", "/realtime/v1/websocket"):
        asked = {
            "Origin": "http://x",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "apikey,x-y",
        }
        preflight = await http.options(path, headers=asked)
        assert preflight.status_code == 200
        assert preflight.headers["Access-Control-Allow-Headers"] == "apikey,x-y"
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        got = await http.get(path, headers={"Origin": "http://x"})
        assert got.headers["Access-Control-Allow-Origin"] == "*"
    assert (await http.get("/nowhere")).json()["message"].startswith("no route matched /nowhere")
    assert (await http.post("/health")).status_code == 405


async def test_every_answer_says_what_a_browser_must_not_do(
    gateway: Gateway, http: httpx.AsyncClient
) -> None:
    """As the answers of our services do."""
    paths = (
        f"{REST}/items",
        f"{REST}/none",
        "/health",
        "/nowhere",
        "/auth/v1/user",
        "/realtime/v1/websocket",
    )
    for path in (*paths, "/realtime/v1/api/broadcast"):
        for got in (await http.get(path), await http.options(path), await http.delete(path)):
            assert {name: got.headers[name] for name in SECURE} == SECURE, (path, got.status_code)
            assert got.headers["Access-Control-Allow-Origin"] == "*"
    url = (
        f"{gateway.url.replace('http', 'ws')}/realtime/v1/websocket?vsn=1.0.0&apikey={gateway.keys.anon_key}"
    )
    async with connect(url, origin="http://x") as socket:
        assert socket.response.headers["Access-Control-Allow-Origin"] == "*"


async def test_the_schema_may_change_between_requests(http: httpx.AsyncClient, admin: Connection) -> None:
    """New, changed and dropped tables are seen without a restart, and no cached plan gets in the way."""
    grant = "grant all on moving to service_role"
    await admin.execute(f"create table moving (id int, v int); {grant}")
    try:
        assert (await http.post(f"{REST}/moving", json={"id": 1, "v": 5})).status_code == 201
        read = f"{REST}/moving?select=*&v=eq.5"
        assert (await http.get(read)).json() == [{"id": 1, "v": 5}]
        await admin.execute("alter table moving alter v type text")
        assert (await http.get(read)).json() == [{"id": 1, "v": "5"}]
        await admin.execute("alter table moving add extra int default 3")
        assert (await http.get(read)).json() == [{"id": 1, "v": "5", "extra": 3}]
        assert (await http.get(f"{REST}/moving?extra=eq.3")).status_code == 200
        await admin.execute(f"drop table moving; create table moving (v text, id int); {grant}")
        assert (await http.get(read)).json() == []
        await admin.execute("alter table moving drop v")
        assert await code_of(await http.get(read)) == (400, "42703")
    finally:
        await admin.execute("drop table moving")
    assert await code_of(await http.get(f"{REST}/moving")) in {(404, "42P01"), (404, "PGRST205")}


async def test_many_requests_at_once(http: httpx.AsyncClient) -> None:
    async def one(number: int) -> int:
        return (await http.post(f"{REST}/pairs", json={"a": number, "b": 0})).status_code

    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(one(number)) for number in range(60)]
    assert {task.result() for task in asked} == {201}
