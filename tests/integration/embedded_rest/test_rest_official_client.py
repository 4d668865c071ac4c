"""The official Python client, unmodified, against the embedded server."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import pytest
from postgrest.exceptions import APIError

from embedded.keys import sign
from supabase import AsyncClient, acreate_client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from asyncpg import Connection


# supabase itself passes its HTTP options to postgrest in the form that postgrest has deprecated
pytestmark = pytest.mark.filterwarnings("ignore:The '.*' parameter is deprecated:DeprecationWarning")


@pytest.fixture
async def client(gateway: Any) -> AsyncIterator[AsyncClient]:
    client = await acreate_client(gateway.url, gateway.keys.service_role_key)
    yield client
    await client.postgrest.aclose()


@pytest.fixture
async def anonymous(gateway: Any) -> AsyncIterator[AsyncClient]:
    client = await acreate_client(gateway.url, gateway.keys.publishable_key)
    yield client
    await client.postgrest.aclose()


@pytest.fixture
async def items(admin: Connection) -> list[int]:
    await admin.execute("truncate items restart identity; truncate pairs")
    await admin.execute(
        """insert into items (name, price, tags, data, feeling, span) values
           ('apple', 1.25, '{red,round}', '{"a": {"b": [1, 2]}, "n": 1}', 'happy', '[1,5)'),
           ('banana', 0.50, '{yellow}', '{"a": null, "n": 2}', 'sad', '[5,9)'),
           ('cherry', 9.99, '{red}', '{}', null, null),
           ('Date (dried), "best"', 4.00, '{}', '{"n": 12345678901234567890}', 'happy', '[2,3)')"""
    )
    return [1, 2, 3, 4]


async def test_select_with_filters_order_and_range(client: AsyncClient, items: list[int]) -> None:
    found = (
        await client.table("items")
        .select("id, label:name, price::text")
        .order("id", desc=True)
        .limit(2)
        .execute()
    )
    assert found.data == [
        {"id": 4, "label": 'Date (dried), "best"', "price": "4.00"},
        {"id": 3, "label": "cherry", "price": "9.99"},
    ]
    page = await client.table("items").select("id").order("id").range(1, 2).execute()
    assert page.data == [{"id": 2}, {"id": 3}]
    path = await client.table("items").select("data->a->b->0, last:data->a->b->>1").eq("id", 1).execute()
    assert path.data == [{"b": 1, "last": "2"}]
    big = await client.table("items").select("data->n").eq("id", 4).execute()
    assert big.data == [{"n": 12345678901234567890}], "numbers pass through untouched"


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("eq", ("name", "apple"), [1]),
        ("eq", ("name", 'Date (dried), "best"'), [4]),
        ("neq", ("id", 1), [2, 3, 4]),
        ("gt", ("price", 4), [3]),
        ("gte", ("price", "4.00"), [3, 4]),
        ("lt", ("id", 2), [1]),
        ("lte", ("id", 2), [1, 2]),
        ("is_", ("feeling", None), [3]),
        ("like", ("name", "%an%"), [2]),
        ("like", ("name", "*an*"), [2]),
        ("ilike", ("name", "d%"), [4]),
        ("like_any_of", ("name", "a%,b%"), [1, 2]),
        ("ilike_all_of", ("name", "%A%,%N%"), [2]),
        ("in_", ("name", ["apple", 'Date (dried), "best"']), [1, 4]),
        ("in_", ("id", []), []),
        ("contains", ("tags", ["red"]), [1, 3]),
        ("contains", ("data", {"n": 2}), [2]),
        ("contained_by", ("tags", ["red", "yellow"]), [2, 3, 4]),
        ("overlaps", ("tags", ["round", "yellow"]), [1, 2]),
        ("range_lt", ("span", [3, 9]), [4]),
        ("range_gt", ("span", [0, 4]), [2]),
        ("range_gte", ("span", [1, 9]), [2, 4]),
        ("range_lte", ("span", [1, 4]), [4]),
        ("range_adjacent", ("span", [8, 10]), [2]),
        ("fts", ("words", "cherry"), [3]),
        ("plfts", ("name", "cherries"), [3]),
        ("wfts", ("words", "apple or banana"), [1, 2]),
        ("or_", ("id.eq.1,and(price.gt.3,name.ilike.c*)",), [1, 3]),
        ("match", ({"id": 1, "name": "apple"},), [1]),
        ("filter", ("data->>n", "eq", "2"), [2]),
        ("filter", ("data->n", "eq", "2"), [2]),
        ("filter", ("name", "match", "^[ab]"), [1, 2]),
        ("filter", ("name", "imatch", "^D"), [4]),
        ("filter", ("feeling", "isdistinct", "happy"), [2, 3]),
        ("filter", ("feeling", "in", "(happy,sad)"), [1, 2, 4]),
        ("filter", ("id", "eq(any)", "{1,3}"), [1, 3]),
    ],
)
async def test_filters(
    client: AsyncClient, items: list[int], name: str, arguments: tuple[Any, ...], expected: list[int]
) -> None:
    query = client.table("items").select("id").order("id")
    found = await getattr(query, name)(*arguments).execute()
    assert [row["id"] for row in found.data] == expected


async def test_negation(client: AsyncClient, items: list[int]) -> None:
    found = (
        await client.table("items").select("id").not_.in_("id", [1, 2]).not_.is_("feeling", None).execute()
    )
    assert found.data == [{"id": 4}]


async def test_counts(client: AsyncClient, items: list[int]) -> None:
    page = await client.table("items").select("id", count="exact").limit(1).execute()
    assert (page.count, len(page.data)) == (4, 1)
    head = await client.table("items").select("*", count="exact", head=True).gt("id", 2).execute()
    assert (head.count, head.data) == (2, [])


async def test_single_and_maybe_single(client: AsyncClient, items: list[int]) -> None:
    one = await client.table("items").select("name").eq("id", 1).single().execute()
    assert one.data == {"name": "apple"}
    with pytest.raises(APIError) as caught:
        await client.table("items").select("name").eq("id", 99).single().execute()
    assert (caught.value.code, caught.value.details) == ("PGRST116", "The result contains 0 rows")
    assert await client.table("items").select("name").eq("id", 99).maybe_single().execute() is None
    found = await client.table("items").select("name").eq("id", 1).maybe_single().execute()
    assert found is not None
    assert found.data == {"name": "apple"}


async def test_insert_one_and_many(client: AsyncClient, items: list[int]) -> None:
    one = await client.table("items").insert({"name": "fig", "price": 2}).execute()
    assert one.data[0]["id"] == 5
    assert one.data[0]["feeling"] is None
    many = (
        await client.table("items")
        .insert([{"name": "g", "feeling": "sad"}, {"name": "h", "price": 7}], default_to_null=False)
        .execute()
    )
    assert [(row["id"], row["price"], row["feeling"]) for row in many.data] == [(6, 1.5, "sad"), (7, 7, None)]
    nulls = (
        await client.table("items")
        .insert([{"id": 80, "name": "i"}, {"id": 90, "name": "j", "price": 7}])
        .execute()
    )
    assert [row["price"] for row in nulls.data] == [None, 7], (
        "a missing key is null unless defaults are asked for"
    )
    quiet = await client.table("items").insert({"name": "k"}, returning="minimal", count="exact").execute()
    assert (quiet.data, quiet.count) == ([], 1)


async def test_upsert(client: AsyncClient, items: list[int]) -> None:
    first = (
        await client.table("pairs")
        .upsert([{"a": 1, "b": 1, "note": "x"}, {"a": 1, "b": 2, "note": "y"}])
        .execute()
    )
    assert len(first.data) == 2
    merged = await client.table("pairs").upsert({"a": 1, "b": 1, "note": "z"}, on_conflict="a,b").execute()
    assert merged.data == [{"a": 1, "b": 1, "note": "z"}]
    ignored = (
        await client.table("pairs").upsert({"a": 1, "b": 1, "note": "!"}, ignore_duplicates=True).execute()
    )
    assert ignored.data == []
    left = await client.table("pairs").select("note").order("b").execute()
    assert left.data == [{"note": "z"}, {"note": "y"}]


async def test_update_and_delete(client: AsyncClient, items: list[int]) -> None:
    updated = (
        await client.table("items").update({"price": 3, "data": {"x": None}}).in_("id", [1, 2]).execute()
    )
    assert [(row["id"], row["price"], row["data"]) for row in updated.data] == [
        (1, 3, {"x": None}),
        (2, 3, {"x": None}),
    ]
    deleted = await client.table("items").delete(count="exact").gte("id", 3).execute()
    assert ([row["id"] for row in deleted.data], deleted.count) == ([3, 4], 2)
    with pytest.raises(APIError) as caught:
        await client.table("items").delete().execute()
    assert caught.value.code == "21000"
    with pytest.raises(APIError) as caught:
        await client.table("items").delete().gte("id", 1).max_affected(1).execute()
    assert caught.value.code == "PGRST124"
    assert len((await client.table("items").select("id").execute()).data) == 2, "rolled back"


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("add", {"a": 1}, 11),
        ("add", {"a": 1, "b": 2}, 3),
        ("blank", {}, None),
        ("as_json", {"x": {"k": [1]}}, {"got": {"k": [1]}}),
        ("numbers", {"upto": 3}, [1, 2, 3]),
        ("table_of", {"n": 2}, [{"i": 1, "square": 1}, {"i": 2, "square": 4}]),
        ("sum_all", {"xs": [1, 2, 3]}, 6),
    ],
)
@pytest.mark.parametrize("get", [False, True])
async def test_rpc(
    client: AsyncClient, name: str, arguments: dict[str, Any], *, expected: Any, get: bool
) -> None:
    if get and isinstance(next(iter(arguments.values()), None), list | dict):
        pytest.skip("the client has no form for these in a query")
    assert (await client.rpc(name, arguments, get=get).execute()).data == expected


async def test_rpc_of_rows(client: AsyncClient, items: list[int]) -> None:
    one = await client.rpc("one_item", {"wanted": "apple"}).execute()
    assert one.data["name"] == "apple"
    some = (
        await client.rpc("all_items", {}).select("id").gt("id", 1).order("id", desc=True).limit(2).execute()
    )
    assert some.data == [{"id": 4}, {"id": 3}]
    counted = await client.rpc("all_items", {}, count="exact", get=True).eq("feeling", "happy").execute()
    assert (counted.count, len(counted.data)) == (2, 2)


async def test_rpc_without_a_result(client: AsyncClient, admin: Connection, items: list[int]) -> None:
    await client.rpc("write_pair", {"a": 7, "b": 8}).execute()
    assert await admin.fetchval("select count(*) from pairs where a = 7") == 1


@pytest.mark.parametrize(
    ("table", "row", "code"),
    [
        ("pairs", {"a": 1}, "23502"),
        ("items", {"name": "x", "points": -1}, "23514"),
        ("items", {"name": "x", "feeling": "bored"}, "22P02"),
        ("children", {"id": 1, "parent_id": 5}, "23503"),
        ("items", {"nope": 1}, "PGRST204"),
        ("nope", {"a": 1}, "PGRST205"),
    ],
)
async def test_errors_have_their_codes(
    client: AsyncClient, table: str, row: dict[str, Any], code: str
) -> None:
    with pytest.raises(APIError) as caught:
        await client.table(table).insert(row).execute()
    assert caught.value.code == code
    assert caught.value.message


async def test_a_duplicate_key_is_said(client: AsyncClient, items: list[int]) -> None:
    with pytest.raises(APIError) as caught:
        await client.table("items").insert({"id": 1, "name": "again"}).execute()
    assert caught.value.code == "23505"
    assert caught.value.details == "Key (id)=(1) already exists."


async def test_unsupported_features_are_said(client: AsyncClient) -> None:
    with pytest.raises(APIError) as caught:
        await client.table("children").select("id, parents(*)").execute()
    assert caught.value.code == "PGRST127"
    assert "embedded server" in str(caught.value.details)
    with pytest.raises(APIError) as caught:
        await client.table("items").select("*").explain().execute()
    assert caught.value.code == "PGRST107"


# -- roles ----------------------------------------------------------------------------------------------


@pytest.fixture
async def notes(admin: Connection) -> tuple[str, str]:
    """Two people and their notes."""
    ada, bob = str(uuid.uuid4()), str(uuid.uuid4())
    await admin.execute("truncate notes")
    rows = [(1, ada, "ada's"), (2, bob, "bob's"), (3, bob, "public")]
    await admin.executemany("insert into notes values ($1, $2, $3)", rows)
    return ada, bob


async def test_row_level_security_by_role(
    gateway: Any, client: AsyncClient, anonymous: AsyncClient, notes: tuple[str, str]
) -> None:
    ada, bob = notes

    async def seen(who: AsyncClient) -> list[int]:
        return [row["id"] for row in (await who.table("notes").select("id").order("id").execute()).data]

    assert await seen(client) == [1, 2, 3], "service_role passes by the policies"
    assert await seen(anonymous) == [3]
    anonymous.postgrest.auth(sign({"role": "authenticated", "sub": ada}, gateway.keys.jwt_secret))
    assert await seen(anonymous) == [1]
    mine = {"id": 4, "owner": ada, "body": "new"}
    assert (await anonymous.table("notes").insert(mine).execute()).data == [mine]
    with pytest.raises(APIError) as caught:
        await anonymous.table("notes").insert({"id": 5, "owner": bob, "body": "forged"}).execute()
    assert caught.value.code == "42501"
    assert (await anonymous.table("notes").update({"body": "x"}).eq("id", 2).execute()).data == []


async def test_privileges_by_role(client: AsyncClient, anonymous: AsyncClient) -> None:
    assert (await client.table("secrets").select("*").execute()).data == []
    with pytest.raises(APIError) as caught:
        await anonymous.table("secrets").select("*").execute()
    assert caught.value.code == "42501"


async def test_what_a_transaction_knows_of_its_request(gateway: Any, anonymous: AsyncClient) -> None:
    user = str(uuid.uuid4())
    claims = {"role": "authenticated", "sub": user, "app_metadata": {"crossfade_role": "viewer"}}
    anonymous.postgrest.auth(sign(claims, gateway.keys.jwt_secret))
    told = (await anonymous.rpc("who", {}, get=True).execute()).data
    assert (told["role"], told["uid"], told["auth_role"]) == ("authenticated", user, "authenticated")
    assert told["jwt"] == claims
    assert (told["method"], told["path"], told["read_only"]) == ("GET", "/rpc/who", "on")


async def test_a_wrong_key_is_refused(gateway: Any) -> None:
    stranger = await acreate_client(gateway.url, sign({"role": "service_role"}, "x" * 40))
    try:
        with pytest.raises(APIError) as caught:
            await stranger.table("items").select("*").execute()
        assert caught.value.code == "PGRST301"
    finally:
        await stranger.postgrest.aclose()
